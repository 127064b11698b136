import java.nio.file.Files;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.errors.LogAndContinueExceptionHandler;
import org.apache.kafka.streams.kstream.Consumed;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaProducerFactory;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.kafka.listener.ContainerProperties;
import org.springframework.kafka.listener.DeadLetterPublishingRecoverer;
import org.springframework.kafka.listener.DefaultErrorHandler;
import org.springframework.kafka.listener.KafkaMessageListenerContainer;
import org.springframework.kafka.listener.MessageListener;
import org.springframework.util.backoff.FixedBackOff;

/** Kafka Streams or a listener of Spring's that reads orders.placed and cannot take one record of it, each on its defaults
 *  but for where its dead letters go. Ends when it is killed, or after two minutes. */
final class Letters {
    public static void main(String[] arguments) throws Exception {
        String servers = arguments[1];
        if (arguments[0].equals("streams")) {
            streams(servers);
        } else {
            spring(servers);
        }
    }

    private static void streams(String servers) throws Exception {
        var properties = new Properties();
        properties.put("application.id", "fraud-check");
        properties.put("bootstrap.servers", servers);
        properties.put("state.dir", Files.createTempDirectory("streams").toString());
        properties.put("auto.offset.reset", "earliest");
        properties.put("deserialization.exception.handler", LogAndContinueExceptionHandler.class);
        properties.put("errors.dead.letter.queue.topic.name", "orders.dlq");
        var builder = new StreamsBuilder();
        builder.stream("orders.placed", Consumed.with(Serdes.String(), Serdes.Long())).foreach((key, value) -> {});
        try (var streams = new KafkaStreams(builder.build(), properties)) {
            streams.start();
            Thread.sleep(120_000);
        }
    }

    private static void spring(String servers) throws Exception {
        var producers = new DefaultKafkaProducerFactory<>(
                Map.of("bootstrap.servers", servers), new ByteArraySerializer(), new ByteArraySerializer());
        var consumers = new DefaultKafkaConsumerFactory<>(
                Map.of("bootstrap.servers", servers, "auto.offset.reset", "earliest"),
                new ByteArrayDeserializer(), new ByteArrayDeserializer());
        var properties = new ContainerProperties("orders.placed");
        properties.setGroupId("billing");
        properties.setMessageListener((MessageListener<byte[], byte[]>) record -> {
            if (record.offset() == 7) {
                throw new IllegalStateException("no such customer");
            }
        });
        var container = new KafkaMessageListenerContainer<>(consumers, properties);
        var recoverer = new DeadLetterPublishingRecoverer(new KafkaTemplate<>(producers));
        container.setCommonErrorHandler(new DefaultErrorHandler(recoverer, new FixedBackOff(0, 0)));
        container.start();
        Thread.sleep(120_000);
        container.stop();
    }
}
