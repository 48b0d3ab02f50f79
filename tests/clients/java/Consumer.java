// A reader of any topics with Apicurio's serde: what is committed, up to the end, as JSON lines.
//
//     java -cp … Consumer.java BROKERS REGISTRY TOPIC…

import io.apicurio.registry.serde.avro.AvroKafkaDeserializer;
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

public class Consumer {
    public static void main(String[] given) {
        Map<String, Object> settings = Map.of("bootstrap.servers", given[0], "apicurio.registry.url", given[1],
            "isolation.level", "read_committed", "key.deserializer", StringDeserializer.class,
            "value.deserializer", AvroKafkaDeserializer.class);
        try (var kafka = new KafkaConsumer<String, Object>(settings)) {
            var all = new ArrayList<TopicPartition>();
            for (String topic : List.of(given).subList(2, given.length))
                kafka.partitionsFor(topic).forEach(one -> all.add(new TopicPartition(topic, one.partition())));
            kafka.assign(all);
            kafka.seekToBeginning(all);
            var ends = kafka.endOffsets(all);
            while (all.stream().anyMatch(one -> kafka.position(one) < ends.get(one)))
                for (var read : kafka.poll(Duration.ofSeconds(1))) {
                    String line = "{\"topic\": \"%s\", \"key\": \"%s\", \"value\": %s}%n";
                    System.out.printf(line, read.topic(), read.key(), read.value());
                }
        }
    }
}
