"""Apache Kafka as one KRaft node: the broker that Hansard runs on, for tests of its transactions and rebalances."""

import subprocess

import service

VERSION = "4.1.0"
ARTIFACTS = [
    f"org.apache.kafka:kafka_2.13:{VERSION}",
    f"org.apache.kafka:kafka-tools:{VERSION}",
    "org.slf4j:slf4j-simple:1.7.36",
]


def classpath():
    """Kafka's jars; its console tools are in them too."""
    return str(service.jars(f"kafka-{VERSION}", ARTIFACTS))


def start(home):
    """Starts the broker in `home`; returns the environment that leads to it."""
    return service.start(home, _launch)


def _launch(home):
    broker, controller = service.free_port(), service.free_port()
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{broker}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
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
    formatted = subprocess.run(
        command + ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", properties],
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
        environment={"HANSARD_TEST_KAFKA": f"127.0.0.1:{broker}"},
        seconds=120,
    )
