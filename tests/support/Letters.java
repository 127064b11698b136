import java.nio.file.Files;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.common.config.ConfigResource;
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

/** Kafka Streams, a listener of Spring's, or a share group (by its name, and whether records are copied) that reads orders.placed and cannot take one record of it, each on its defaults
 *  but for where its dead letters go. Ends when it is killed, or after two minutes. */
final class Letters {
    public static void main(String[] arguments) throws Exception {
        String servers = arguments[1];
        try {
            switch (arguments[0]) {
                case "streams" -> streams(servers);
                case "spring" -> spring(servers);
                default -> share(servers, arguments[0], arguments[2]);
            }
        } catch (Exception failure) {
            failure.printStackTrace(); // java's launcher of sources says another thing of it
            System.exit(1);
        }
    }

    private static void share(String servers, String group, String copied) throws Exception {
        try (var admin = Admin.create(Map.of("bootstrap.servers", (Object) servers))) {
            var changes = new ArrayList<AlterConfigOp>();
            Map.of(
                            "share.auto.offset.reset", "earliest",
                            "errors.deadletterqueue.topic.name", "dlq." + group,
                            "errors.deadletterqueue.copy.record.enable", copied)
                    .forEach((name, value) ->
                            changes.add(new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET)));
            var resource = new ConfigResource(ConfigResource.Type.GROUP, group);
            admin.incrementalAlterConfigs(Map.of(resource, changes)).all().get();
        }
        var properties = new Properties();
        properties.put("bootstrap.servers", servers);
        properties.put("group.id", group);
        properties.put("share.acknowledgement.mode", "explicit");
        long endMs = System.currentTimeMillis() + 120_000;
        try (var consumer =
                new KafkaShareConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of("orders.placed"));
            while (System.currentTimeMillis() < endMs) {
                for (var record : consumer.poll(Duration.ofSeconds(1))) {
                    boolean taken = record.offset() != 7;
                    consumer.acknowledge(record, taken ? AcknowledgeType.ACCEPT : AcknowledgeType.REJECT);
                }
                consumer.commitSync();
            }
        }
    }

    private static void streams(String servers) throws Exception {
        var properties = new Properties();
        properties.put("application.id", "pricing");
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
