// A reader of any topics with nothing but kafka-clients and avro: what is committed, up to the end, as JSON lines.
//
//     java -cp … Consumer.java BROKERS REGISTRY TOPIC…

import com.fasterxml.jackson.databind.ObjectMapper;
import java.net.URI;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.*;
import org.apache.avro.Schema;
import org.apache.avro.generic.*;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

public class Consumer {
    public static void main(String[] given) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", given[0], "isolation.level", "read_committed");
        var schemas = new HashMap<Integer, Schema>();
        try (var kafka = new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer())) {
            var all = new ArrayList<TopicPartition>();
            for (String topic : Arrays.copyOfRange(given, 2, given.length))
                kafka.partitionsFor(topic).forEach(one -> all.add(new TopicPartition(topic, one.partition())));
            kafka.assign(all);
            kafka.seekToBeginning(all);
            var ends = kafka.endOffsets(all);
            while (all.stream().anyMatch(one -> kafka.position(one) < ends.get(one)))
                for (var read : kafka.poll(Duration.ofSeconds(1))) {
                    if (read.value() == null) continue;
                    var bytes = ByteBuffer.wrap(read.value(), 1, 4);
                    int id = bytes.getInt();
                    if (!schemas.containsKey(id)) {
                        var answer = new ObjectMapper().readTree(URI.create(given[1] + "/schemas/ids/" + id).toURL());
                        schemas.put(id, new Schema.Parser().parse(answer.get("schema").asText()));
                    }
                    var datum = DecoderFactory.get().binaryDecoder(read.value(), 5, read.value().length - 5, null);
                    var record = new GenericDatumReader<GenericRecord>(schemas.get(id)).read(null, datum);
                    String line = "{\"topic\": \"%s\", \"key\": \"%s\", \"value\": %s}%n";
                    System.out.printf(line, read.topic(), read.key(), record);
                }
        }
    }
}
