import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.vertx.VertxParallelStreamProcessor;
import io.vertx.core.Future;
import io.vertx.core.buffer.Buffer;
import io.vertx.ext.web.client.HttpResponse;
import io.vertx.ext.web.client.WebClient;
import io.vertx.ext.web.client.predicate.ResponsePredicate;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Confluent's Parallel Consumer at the work of the bench's floor: each record's value posted, one request in flight a
 * key, what is finished kept in the metadata of its commits. Everything else is at its defaults; its own client has a
 * pool of as many connections as requests may be in flight.
 *
 * <p>Arguments: bootstrap servers, group, topic, URL, requests in flight, then name=value for each header. Prints how
 * many records were answered with a 2xx, ten times a second, until it is ended.
 */
public final class Peer {
  private static final LongAdder ANSWERED = new LongAdder();

  public static void main(String[] arguments) throws Exception {
    Properties settings = new Properties();
    settings.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
    settings.put(ConsumerConfig.GROUP_ID_CONFIG, arguments[1]);
    settings.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, false); // it refuses to work beside one
    settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
    settings.put(ConsumerConfig.ISOLATION_LEVEL_CONFIG, "read_committed");
    URI url = new URI(arguments[3]);
    String[][] headers = new String[arguments.length - 5][];
    for (int i = 5; i < arguments.length; i++) {
      headers[i - 5] = arguments[i].split("=", 2);
    }

    // Keys as strings: as arrays of bytes no two of them would be equal, and nothing in order.
    ParallelConsumerOptions<String, byte[]> options =
        ParallelConsumerOptions.<String, byte[]>builder()
            .consumer(new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer()))
            .ordering(ProcessingOrder.KEY)
            .maxConcurrency(Integer.parseInt(arguments[4]))
            .build();
    VertxParallelStreamProcessor<String, byte[]> processor =
        VertxParallelStreamProcessor.createEosStreamProcessor(options);
    Runtime.getRuntime().addShutdownHook(new Thread(processor::closeDontDrainFirst));
    processor.subscribe(List.of(arguments[2]));
    processor.vertxHttpWebClient(
        (client, context) -> post(client, url, headers, context.getSingleConsumerRecord()), sent -> {});
    while (true) {
      System.out.println(ANSWERED.sum());
      Thread.sleep(100);
    }
  }

  private static Future<HttpResponse<Buffer>> post(
      WebClient client, URI url, String[][] headers, ConsumerRecord<String, byte[]> record) {
    var request = client.post(url.getPort(), url.getHost(), url.getPath());
    for (String[] header : headers) {
      request.putHeader(header[0], header[1]);
    }
    String entry = new String(record.headers().lastHeader("entry-id").value(), StandardCharsets.UTF_8);
    request.putHeader("Idempotency-Key", '"' + entry + '"');
    Future<HttpResponse<Buffer>> answer =
        request.expect(ResponsePredicate.SC_SUCCESS).sendBuffer(Buffer.buffer(record.value()));
    return answer.onSuccess(ignored -> ANSWERED.increment());
  }
}
