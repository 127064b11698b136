import java.io.File;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.LongAdder;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * Kafka Streams at the work of the bench's floor: Avro decoded, the order's state in RocksDB with its changelog, the
 * event as JSON into an outbox, all of it exactly once. No rules. Everything else is at its defaults.
 *
 * <p>Arguments: bootstrap servers, application ID, outbox, state directory, threads, then topic=schema file for each
 * source. Prints how many records it has taken, each quarter of a second, until it is ended.
 */
public final class Peer {
  private static final int FRAMING_BYTES = 5;
  private static final LongAdder TAKEN = new LongAdder();

  public static void main(String[] arguments) throws Exception {
    String outbox = arguments[2];
    Map<String, Schema> schemas = new HashMap<>();
    for (int i = 5; i < arguments.length; i++) {
      String[] source = arguments[i].split("=", 2);
      schemas.put(source[0], new Schema.Parser().parse(new File(source[1])));
    }
    Properties settings = new Properties();
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[1]);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[3]);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, arguments[4]);
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
    settings.put(StreamsConfig.producerPrefix("compression.type"), "lz4");

    ByteArrayDeserializer bytes = new ByteArrayDeserializer();
    Topology topology = new Topology();
    topology.addSource("orders", bytes, bytes, schemas.keySet().toArray(new String[0]));
    topology.addProcessor("apply", () -> new Apply(schemas), "orders");
    topology.addStateStore(
        Stores.keyValueStoreBuilder(
            Stores.persistentKeyValueStore("orders"), Serdes.ByteArray(), Serdes.ByteArray()),
        "apply");
    topology.addSink("outbox", outbox, new ByteArraySerializer(), new ByteArraySerializer(), "apply");

    KafkaStreams streams = new KafkaStreams(topology, settings);
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.setGlobalStateRestoreListener(new Restored());
    streams.start();
    while (true) {
      System.out.println(TAKEN.sum());
      Thread.sleep(250);
    }
  }

  /** What is restored counts as taken: a bench has either. */
  private static final class Restored implements StateRestoreListener {
    @Override
    public void onRestoreStart(TopicPartition partition, String store, long from, long to) {}

    @Override
    public void onBatchRestored(TopicPartition partition, String store, long end, long restored) {
      TAKEN.add(restored);
    }

    @Override
    public void onRestoreEnd(TopicPartition partition, String store, long total) {}
  }

  private static final class Apply implements Processor<byte[], byte[], byte[], byte[]> {
    private final Map<String, GenericDatumReader<GenericRecord>> readers = new HashMap<>();
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<byte[], byte[]> orders;
    private BinaryDecoder decoder;

    Apply(Map<String, Schema> schemas) {
      schemas.forEach((topic, schema) -> readers.put(topic, new GenericDatumReader<>(schema)));
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
      this.context = context;
      this.orders = context.getStateStore("orders");
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      TAKEN.increment();
      byte[] value = record.value();
      if (value == null) {
        orders.delete(record.key());
        return;
      }
      GenericRecord event;
      try {
        decoder =
            DecoderFactory.get().binaryDecoder(value, FRAMING_BYTES, value.length - FRAMING_BYTES, decoder);
        event = readers.get(context.recordMetadata().orElseThrow().topic()).read(null, decoder);
      } catch (java.io.IOException broken) {
        throw new IllegalStateException(broken);
      }
      byte[] known = orders.get(record.key());
      String before = known == null ? "" : new String(known, StandardCharsets.UTF_8);
      orders.put(record.key(), (before + event.get("event_id") + ",").getBytes(StandardCharsets.UTF_8));
      context.forward(record.withValue(event.toString().getBytes(StandardCharsets.UTF_8)));
    }
  }
}
