#!/usr/bin/env bash
# Avro for Java 1.12.2, with its conversions of times: a timestamp-micros that is read with a schema of timestamp-millis
# is taken as it stands. SchemaCompatibility says COMPATIBLE, nothing is raised, and an instant of 2026 is one of the
# year 58859: the conversion goes by the reader's logical type, whatever the writer's is.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
cat >pom.xml <<'XML'
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>finding</groupId>
  <artifactId>finding</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.avro</groupId>
      <artifactId>avro</artifactId>
      <version>1.12.2</version>
    </dependency>
  </dependencies>
</project>
XML
mvn --quiet --batch-mode dependency:copy-dependencies -DoutputDirectory=lib
cat >Seen.java <<'JAVA'
import java.io.ByteArrayOutputStream;
import org.apache.avro.Schema;
import org.apache.avro.SchemaCompatibility;
import org.apache.avro.data.TimeConversions;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;

class Seen {
    static Schema placed(String unit) {
        return new Schema.Parser().parse(
            """
            {"type": "record", "name": "Placed",
             "fields": [{"name": "at", "type": {"type": "long", "logicalType": "timestamp-%s"}}]}
            """.formatted(unit));
    }

    public static void main(String[] arguments) throws Exception {
        Schema writer = placed("micros");
        Schema reader = placed("millis");
        GenericRecord record = new GenericData.Record(writer);
        record.put("at", 1795255200123000L);
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        var encoder = EncoderFactory.get().binaryEncoder(out, null);
        new GenericDatumWriter<GenericRecord>(writer).write(record, encoder);
        encoder.flush();
        GenericData model = new GenericData();
        model.addLogicalTypeConversion(new TimeConversions.TimestampMillisConversion());
        model.addLogicalTypeConversion(new TimeConversions.TimestampMicrosConversion());
        var decoder = DecoderFactory.get().binaryDecoder(out.toByteArray(), null);
        var read = new GenericDatumReader<GenericRecord>(writer, reader, model).read(null, decoder);
        var said = SchemaCompatibility.checkReaderWriterCompatibility(reader, writer).getType();
        System.out.println(said + " " + read.get("at"));
    }
}
JAVA
seen=$(java -cp 'lib/*' Seen.java 2>/dev/null)
echo "$seen"
[[ $seen == "COMPATIBLE +58859-05-16T16:02:03Z" ]]
echo "seen as described"
