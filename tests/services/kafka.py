"""Apache Kafka as one KRaft node: the broker that Hansard runs on, for tests of its transactions and rebalances. A second
listener has TLS, by an authority made for the run, and SASL, with one user who may do everything and one who may nothing."""

import subprocess

import certificates
import service

VERSION = "4.1.0"
ARTIFACTS = [
    f"org.apache.kafka:kafka_2.13:{VERSION}",
    f"org.apache.kafka:kafka-tools:{VERSION}",
    "org.slf4j:slf4j-simple:1.7.36",
]

# Users of the secured listener with their passwords; a test takes them from here.
USERS = {"hansard": "hansard-tests-password", "nobody": "nobody-tests-password"}
MECHANISM = "SCRAM-SHA-512"


def classpath():
    """Kafka's jars; its console tools are in them too."""
    return str(service.jars(f"kafka-{VERSION}", ARTIFACTS))


def start(home):
    """Starts the broker in `home`; returns the environment that leads to it."""
    return service.start(home, _launch)


def _launch(home):
    broker, controller, secured = service.free_port(), service.free_port(), service.free_port()
    certificates.make(home)
    login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{broker},SECURED://127.0.0.1:{secured},CONTROLLER://127.0.0.1:{controller}",
        # A certificate is for a name.
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{broker},SECURED://localhost:{secured}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SECURED:SASL_SSL,CONTROLLER:PLAINTEXT",
        "listener.name.secured.ssl.keystore.type": "PEM",
        "listener.name.secured.ssl.keystore.location": home / "server.pem",
        "listener.name.secured.sasl.enabled.mechanisms": MECHANISM,
        "listener.name.secured.scram-sha-512.sasl.jaas.config": login,
        "inter.broker.listener.name": "PLAINTEXT",
        # Who comes without a name may do everything, as without an authorizer.
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:hansard",
        "log.dirs": home / "data",
        # One node holds every internal topic, and few partitions of them keep start and rebalances short.
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        "group.initial.rebalance.delay.ms": 0,
        # A test creates its own topics, with the partitions that it means.
        "auto.create.topics.enable": "false",
        # Small segments let a test reach retention; preallocation would cost disk for each of many topics.
        "log.segment.bytes": 64 * 1024 * 1024,
        "log.index.size.max.bytes": 1024 * 1024,
    }
    properties = home / "server.properties"
    properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()), encoding="utf-8")
    command = [*service.jvm(home, 17), "-Xmx384m"]
    command += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", classpath()]
    cluster = "aGFuc2FyZC10ZXN0cy0xMQ"
    users = [f"{MECHANISM}=[name={name},password={password}]" for name, password in USERS.items()]
    added = [word for user in users for word in ("--add-scram", user)]
    formatted = subprocess.run(
        command + ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", properties, *added],
        capture_output=True,
        text=True,
        check=False,
    )
    if formatted.returncode != 0:
        raise service.ServiceError(f"kafka's storage could not be formatted:\n{formatted.stdout}{formatted.stderr}")
    return service.Launch(
        home,
        command + ["kafka.Kafka", properties],
        port=broker,
        # ApiVersions, version 0, without a client id.
        greeting=bytes.fromhex("0000000a 0012 0000 00000001 ffff"),
        environment={
            "HANSARD_TEST_KAFKA": f"127.0.0.1:{broker}",
            "HANSARD_TEST_KAFKA_SECURED": f"localhost:{secured}",
            "HANSARD_TEST_KAFKA_AUTHORITIES": str(home),
        },
        seconds=120,
    )
