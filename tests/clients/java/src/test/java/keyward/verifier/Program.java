package keyward.verifier;

import io.grpc.InsecureChannelCredentials;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;

/** Runs the verifier for tests/clients/shared/verifier_drill.py, which describes its lines. */
public final class Program {
  private Program() {}

  public static void main(String[] arguments) throws Exception {
    var settings = new Verifier.Settings(setting("ISSUER"), setting("AUDIENCE"));
    var tls = InsecureChannelCredentials.create();
    var server =
        new Server(setting("TARGET"), setting("CLIENT_ID"), setting("CLIENT_SECRET"), tls);
    try (var verifier = new Verifier(settings);
        var lines = new BufferedReader(new InputStreamReader(System.in))) {
      verifier.follow(server, Duration.ofSeconds(30));
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        System.out.println(answer(verifier, line.split(" ")));
      }
    }
  }

  private static String setting(String name) {
    return System.getenv("KEYWARD_" + name);
  }

  private static String answer(Verifier verifier, String[] question) throws Refused {
    if (question[0].equals("ready")) {
      return "ready";
    }
    if (question[0].equals("measure")) {
      int count = Integer.parseInt(question[1]);
      long began = System.nanoTime();
      for (int n = 0; n < count; n++) {
        verifier.verify(question[2]);
      }
      return Long.toString((System.nanoTime() - began) / 1000 / count);
    }
    try {
      verifier.verify(question[1]);
      return "accepted";
    } catch (Refused refused) {
      return refused.reason().code();
    }
  }
}
