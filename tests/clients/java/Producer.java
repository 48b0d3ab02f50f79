// A producer of recordings that lie in S3 already, with nothing but kafka-clients and avro: an Upload for each, then a
// Finish.
//
//     java -cp … Producer.java BROKERS REGISTRY TOPIC CONVERSATION BUCKET KEY=BYTES…

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.net.URI;
import java.util.Map;
import java.util.UUID;
import org.apache.avro.Schema;
import org.apache.avro.generic.*;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.serialization.*;

public class Producer {
    public static void main(String[] given) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", given[0], "acks", "all");
        try (var kafka = new KafkaProducer<>(settings, new StringSerializer(), new ByteArraySerializer())) {
            for (int number = 0; number < given.length - 5; number++) {
                String[] object = given[number + 5].split("=");
                var where = Map.of("bucket", given[4], "key", object[0], "etag", "", "bytes", Long.parseLong(object[1]));
                publish(kafka, given, "Upload",
                    Map.of("chunk_id", "k" + number, "recorded_at", 0L, "sequence", (long) number, "object", where));
            }
            publish(kafka, given, "Finish", Map.of("expected_chunks", given.length - 5));
        }
    }

    static void publish(KafkaProducer<String, byte[]> kafka, String[] given, String record, Map<String, Object> fields)
            throws Exception {
        var url = URI.create(given[1] + "/subjects/" + given[2] + "-hansard." + record + "/versions/latest").toURL();
        var latest = new ObjectMapper().readTree(url);
        var schema = new Schema.Parser().parse(latest.get("schema").asText());
        var event = build(schema, fields).set("conversation_id", given[3])
            .set("event_id", UUID.randomUUID().toString()).set("occurred_at", System.currentTimeMillis()).build();
        var bytes = new ByteArrayOutputStream();
        new DataOutputStream(bytes).writeByte(0);
        new DataOutputStream(bytes).writeInt(latest.get("id").asInt());
        var encoder = EncoderFactory.get().directBinaryEncoder(bytes, null);
        new GenericDatumWriter<GenericRecord>(schema).write(event, encoder);
        kafka.send(new ProducerRecord<>(given[2], given[3], bytes.toByteArray())).get();
    }

    @SuppressWarnings("unchecked")
    static GenericRecordBuilder build(Schema schema, Map<String, Object> fields) {
        var record = new GenericRecordBuilder(schema);
        fields.forEach((name, value) -> record.set(name, value instanceof Map<?, ?> inner
            ? build(schema.getField(name).schema(), (Map<String, Object>) inner).build() : value));
        return record;
    }
}
