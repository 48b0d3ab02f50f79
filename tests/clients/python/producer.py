"""A producer of recordings that lie in S3 already, with nothing but confluent-kafka: an Upload for each, then a Finish.

    producer.py BROKERS REGISTRY TOPIC CONVERSATION BUCKET KEY=BYTES…
"""

import sys
import time
import uuid

from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

brokers, registry, topic, conversation, bucket, *objects = sys.argv[1:]
client = SchemaRegistryClient({"url": registry})
producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True})


def publish(record, **fields):
    latest = client.get_latest_version(f"{topic}-hansard.{record}")
    rules = {"auto.register.schemas": False, "subject.name.strategy": topic_record_subject_name_strategy}
    serialize = AvroSerializer(client, latest.schema.schema_str, conf=rules)
    now = int(time.time() * 1000)
    event = {"conversation_id": conversation, "event_id": str(uuid.uuid4()), "occurred_at": now, **fields}
    producer.produce(topic, serialize(event, SerializationContext(topic, MessageField.VALUE)), conversation)


for number, (key, size) in enumerate(named.split("=") for named in objects):
    where = {"bucket": bucket, "key": key, "etag": "", "bytes": int(size)}
    publish("Upload", chunk_id=f"k{number}", object=where, recorded_at=0, sequence=number)
publish("Finish", expected_chunks=len(objects))
sys.exit(producer.flush(30))
