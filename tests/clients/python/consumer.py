"""A reader of any topics with nothing but confluent-kafka: what is committed, up to the end, as JSON lines.

    consumer.py BROKERS REGISTRY TOPIC…
"""

import json
import sys

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

brokers, registry, *topics = sys.argv[1:]
deserialize = AvroDeserializer(SchemaRegistryClient({"url": registry}))
settings = {"bootstrap.servers": brokers, "group.id": "reader", "enable.auto.commit": False}
consumer = Consumer({**settings, "isolation.level": "read_committed", "enable.partition.eof": True})
found = {topic: consumer.list_topics(topic, 30).topics[topic].partitions for topic in topics}
unread = {(topic, partition) for topic, partitions in found.items() for partition in partitions}
consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in unread])
while unread:
    got = consumer.poll(30)
    if got is None:
        sys.exit("nothing was read for 30 s")
    if got.error():
        if got.error().code() != KafkaError._PARTITION_EOF:
            sys.exit(str(got.error()))
        unread.discard((got.topic(), got.partition()))
    elif got.value() is not None:
        record = deserialize(got.value(), SerializationContext(got.topic(), MessageField.VALUE))
        print(json.dumps({"topic": got.topic(), "key": got.key().decode(), "value": record}, default=str))
consumer.close()
