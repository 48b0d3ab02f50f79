// A producer of recordings that lie in S3 already, with Apicurio's serde: an Upload for each, then a Finish.
//
//     java -cp … Producer.java BROKERS REGISTRY TOPIC CONVERSATION BUCKET KEY=BYTES…

import io.apicurio.registry.serde.avro.AvroKafkaSerializer;
import io.apicurio.registry.serde.strategy.SimpleTopicIdStrategy;
import java.net.URI;
import java.util.*;
import org.apache.avro.Schema;
import org.apache.avro.generic.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.serialization.*;

public class Producer {
    public static void main(String[] given) throws Exception {
        Map<String, Object> brokers = Map.of("bootstrap.servers", given[0]);
        try (var kafka = new KafkaProducer<>(brokers, new StringSerializer(), new ByteArraySerializer());
             var serde = new AvroKafkaSerializer<GenericRecord>()) {
            serde.configure(Map.of("apicurio.registry.url", given[1], "apicurio.registry.find-latest", true,
                "apicurio.registry.artifact-resolver-strategy", SimpleTopicIdStrategy.class.getName()), false);
            for (int number = 0; number <= given.length - 5; number++) {
                String record = number < given.length - 5 ? "Upload" : "Finish";
                String subject = given[2] + "-hansard." + record;
                var latest = given[1] + "/groups/default/artifacts/" + subject + "/versions/branch=latest/content";
                var schema = new Schema.Parser().parse(URI.create(latest).toURL().openStream());
                var event = new GenericRecordBuilder(schema).set("conversation_id", given[3])
                    .set("event_id", UUID.randomUUID().toString()).set("occurred_at", System.currentTimeMillis());
                if (record.equals("Finish")) {
                    event.set("expected_chunks", number);
                } else {
                    String[] object = given[number + 5].split("=");
                    var where = new GenericRecordBuilder(schema.getField("object").schema()).set("bucket", given[4])
                        .set("key", object[0]).set("etag", "").set("bytes", Long.parseLong(object[1]));
                    event.set("chunk_id", "k" + number).set("recorded_at", 0L).set("sequence", (long) number)
                        .set("object", where.build());
                }
                kafka.send(new ProducerRecord<>(given[2], given[3], serde.serialize(subject, event.build()))).get();
            }
        }
    }
}
