import Glibc

/// Load for measuring proxies: an origin that answers, and clients that ask. One thread each; results are one line of JSON.
@main
struct MeshLoad {
  static let usage = """
    usage: mesh-load MODE OPTIONS
      origin   --listen IP:PORT [--sink IP:PORT]   answer /bytes/N with N bytes (HTTP/1.1 and HTTP/2), gRPC calls with
                                                   their own messages; swallow what comes to the sink
      http     --to IP:PORT --seconds S [--connections N] [--path P] [--host H] [--rate R]
               as fast as it goes, or R requests a second, begun on time whatever the answers do
      connect  --to IP:PORT --seconds S [--connections N] [--path P] [--host H] [--tls NAME]
               a new connection for each request
      idle     --to IP:PORT --connections N [--path P] [--host H]
               one request on each connection, then wait for the end of standard input
      push     --to IP:PORT --seconds S [--connections N] [--tls NAME]
               bytes in one direction as fast as they are taken
    """

  static func main() {
    signal(SIGPIPE, SIG_IGN)
    do {
      let options = try Options(CommandLine.arguments.dropFirst())
      switch options.mode {
      case "origin": try Origin(options).run()
      case "http": try HTTPLoad(options).run()
      case "connect": try ConnectLoad(options).run()
      case "idle": try IdleLoad(options).run()
      case "push": try PushLoad(options).run()
      default: throw LoadError("unknown mode '\(options.mode)'")
      }
    } catch {
      say("mesh-load: \(error)\n\(usage)", to: STDERR_FILENO)
      exit(2)
    }
  }
}

/// Writes a line at once, unbuffered: another program waits for it.
func say(_ line: String, to descriptor: Int32 = STDOUT_FILENO) {
  let bytes = Array((line + "\n").utf8)
  _ = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
}

struct LoadError: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}
