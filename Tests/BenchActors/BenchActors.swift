import Glibc
import Primitives
import Transport

/// One end of a measured link; `bench.py` starts two and reads what processor time both take.
///
///     bench-actors server ADDRESS         serves echo calls at 127.x.y.z:port until its input ends
///     bench-actors client OWN ADDRESS     makes calls from an address of its own, as lines of its input say:
///         calls BYTES CONCURRENCY SECONDS
///         brief BYTES CONCURRENCY SECONDS
///         lanes MEGABYTES
///
/// Each line is answered by one of JSON.
@main
struct BenchActors {
  static func main() async {
    do {
      let words = CommandLine.arguments
      switch words.count > 1 ? words[1] : "" {
      case "server" where words.count == 3: try await serve(at: words[2])
      case "client" where words.count == 4: try await ask(words[3], from: words[2])
      default: throw BenchError("usage: bench-actors server ADDRESS | client OWN ADDRESS")
      }
    } catch {
      print("bench-actors: \(error)")
      exit(1)
    }
  }

  private static func serve(at address: String) async throws {
    let node = try BenchNode("server", at: address)
    let echo = Echo(actorSystem: node.system)
    node.network.onFrame(.membership) { [network = node.network] peer, body in
      network.send(.membership, .urgent, to: peer, body: body)
    }
    try node.network.listen()
    say("{\"ready\": true}")
    while readLine() != nil {}
    _ = try await echo.count()
  }

  private static func ask(_ server: String, from own: String) async throws {
    let node = try BenchNode("client", at: own)
    let lanes = LaneLoad(node)
    try node.network.listen()
    node.network.setPeers([BenchNode.server: try SocketAddress(parsing: server)])
    let recorded = try await Echo.recordTargets { echo in
      _ = try? await echo.echo([])
      _ = try? await echo.brief([])
      _ = try? await echo.count()
    }
    guard recorded == Echo.targets.map(\.signature) else { throw BenchError("the targets of Echo are \(recorded)") }
    let echo = try Echo.on(BenchNode.server, using: node.system)
    while (try? await echo.echo([1])) != [1] { try await Task.sleep(for: .milliseconds(10)) }
    say("{\"ready\": true}")
    while let line = readLine() {
      let words = line.split(separator: " ")
      let numbers = words.dropFirst().compactMap { Int($0) }
      switch words.first {
      case "brief" where numbers.count == 3:
        let load = CallLoad(echo: echo, bytes: numbers[0], concurrency: numbers[1], isBrief: true)
        say(try await load.run(for: .seconds(numbers[2])))
      case "calls" where numbers.count == 3:
        let load = CallLoad(echo: echo, bytes: numbers[0], concurrency: numbers[1])
        say(try await load.run(for: .seconds(numbers[2])))
      case "lanes" where numbers.count == 1: say(try await lanes.run(bulkMegabytes: numbers[0]))
      default: throw BenchError("not understood: \(line)")
      }
    }
  }

  private static func say(_ line: String) {
    print(line)
    fflush(nil)
  }
}

struct BenchError: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}
