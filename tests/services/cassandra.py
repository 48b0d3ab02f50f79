"""Apache Cassandra as one node: the CQL server for tests. ScyllaDB is in no package registry, and the statements
that Hansard uses mean the same to both. Its one port takes clients with and without TLS."""

import certificates
import service

VERSION = "5.0.5"
# Java 17 hides what Cassandra reaches for; the list is that of its own conf/jvm17-server.options.
EXPORTS = """java.base/jdk.internal.misc java.base/jdk.internal.ref java.base/sun.nio.ch java.base/java.lang.ref
java.management.rmi/com.sun.jmx.remote.internal.rmi java.rmi/sun.rmi.registry java.rmi/sun.rmi.server
java.rmi/sun.rmi.transport.tcp java.sql/java.sql jdk.unsupported/sun.misc""".split()
OPENS = """java.base/java.lang.module java.base/jdk.internal.loader java.base/jdk.internal.ref
java.base/jdk.internal.reflect java.base/jdk.internal.math java.base/jdk.internal.module
java.base/jdk.internal.util.jar java.base/sun.nio.ch java.base/java.io java.base/java.lang
java.base/java.lang.reflect java.base/java.util java.base/java.util.concurrent
java.base/java.util.concurrent.atomic java.base/java.nio java.rmi/sun.rmi.transport.tcp
jdk.management/com.sun.management.internal""".split()
LOGGING = """<configuration><appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
<encoder><pattern>%d{HH:mm:ss} %-5level %logger{0} %msg%n</pattern></encoder></appender>
<root level="WARN"><appender-ref ref="OUT"/></root></configuration>
"""


def start(home):
    """Starts the node in `home`; returns the environment that leads to it."""
    return service.start(home, _launch)


def _launch(home):
    cql, storage = service.free_port(), service.free_port()
    classpath = service.jars(f"cassandra-{VERSION}", [f"org.apache.cassandra:cassandra-all:{VERSION}"])
    agent = next(classpath.parent.glob("jamm-*.jar"))
    certificates.make(home)
    (home / "cassandra.yaml").write_text(_settings(home, cql, storage), encoding="utf-8")
    (home / "logback.xml").write_text(LOGGING, encoding="utf-8")
    command = [*service.jvm(home, 17, below=18), "-Xmx1g", "-Xss512k", f"-javaagent:{agent}"]
    command += [f"--add-exports={name}=ALL-UNNAMED" for name in EXPORTS]
    command += [f"--add-opens={name}=ALL-UNNAMED" for name in OPENS]
    properties = {
        "jdk.attach.allowAttachSelf": "true",
        "java.net.preferIPv4Stack": "true",
        "logback.configurationFile": home / "logback.xml",
        "cassandra.config": (home / "cassandra.yaml").as_uri(),
        "cassandra.storagedir": home / "data",
        # The node is alone: it need not wait for others to gossip.
        "cassandra.skip_wait_for_gossip_to_settle": 0,
        "cassandra.ring_delay_ms": 0,
        "cassandra.initial_token": 0,
    }
    command += [f"-D{key}={value}" for key, value in properties.items()]
    command += ["-cp", str(classpath), "org.apache.cassandra.service.CassandraDaemon"]
    return service.Launch(
        home,
        command,
        port=cql,
        # OPTIONS of the native protocol's version 4.
        greeting=bytes.fromhex("04 00 0000 05 00000000"),
        environment={"HANSARD_TEST_CQL": f"127.0.0.1:{cql}", "HANSARD_TEST_CQL_AUTHORITIES": str(home)},
        seconds=240,
    )


def _settings(home, cql, storage):
    # Written rows are on disk when they are acknowledged: by default the newest are lost with the process, which a
    # majority of replicas makes good and a node alone does not.
    data = home / "data"
    return f"""cluster_name: hansard-tests
num_tokens: 1
auto_bootstrap: false
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: "127.0.0.1:{storage}"
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
storage_port: {storage}
native_transport_port: {cql}
start_native_transport: true
client_encryption_options:
  enabled: true
  optional: true
  keystore: {home}/server.p12
  keystore_password: {certificates.PASSWORD}
  store_type: PKCS12
data_file_directories: ["{data}/data"]
commitlog_directory: {data}/commitlog
hints_directory: {data}/hints
saved_caches_directory: {data}/saved_caches
cdc_raw_directory: {data}/cdc_raw
commitlog_sync: group
commitlog_sync_group_window: 2ms
commitlog_segment_size: 16MiB
commitlog_total_space: 512MiB
memtable_heap_space: 128MiB
key_cache_size: 8MiB
concurrent_compactors: 1
auto_snapshot: false
disk_failure_policy: die
commit_failure_policy: die
"""
