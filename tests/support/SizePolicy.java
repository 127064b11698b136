import java.util.Map;
import org.apache.kafka.common.errors.PolicyViolationException;
import org.apache.kafka.server.policy.AlterConfigPolicy;
import org.apache.kafka.server.policy.CreateTopicPolicy;

/** What a cluster's owner may run its brokers with: no topic takes records of more than 8 MiB. */
public class SizePolicy implements CreateTopicPolicy, AlterConfigPolicy {
    private static final int BYTES_MAX = 8 * 1024 * 1024;

    @Override
    public void configure(Map<String, ?> configs) {
    }

    @Override
    public void validate(CreateTopicPolicy.RequestMetadata asked) {
        validate(asked.configs());
    }

    @Override
    public void validate(AlterConfigPolicy.RequestMetadata asked) {
        validate(asked.configs());
    }

    private static void validate(Map<String, String> configs) {
        if (configs != null && Integer.parseInt(configs.getOrDefault("max.message.bytes", "0")) > BYTES_MAX) {
            throw new PolicyViolationException("no record larger than 8 MiB on this cluster");
        }
    }

    @Override
    public void close() {
    }
}
