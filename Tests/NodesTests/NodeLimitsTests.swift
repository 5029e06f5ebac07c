import Primitives
import Proxy
import Testing

@testable import Nodes

/// `limits` of `cluster.json`.
@Suite struct NodeLimitsTests {
  private func parse(_ limits: String) throws(ClusterFileError) -> ClusterFile {
    let text = "{\"cluster\": \"c\", \"nodes\": [{\"name\": \"a\", \"address\": \"192.0.2.1\"}], \"limits\": \(limits)}"
    return try ClusterFile(parsing: Array(text.utf8), path: "cluster.json")
  }

  private func options(_ limits: String) throws -> ProxyOptions {
    var options = ProxyOptions()
    try parse(limits).limits.apply(to: &options)
    return options
  }

  @Test func `what is absent keeps its default`() throws {
    let (own, standard) = (try options("{}"), ProxyOptions())
    #expect(own.overload == standard.overload)
    #expect(own.headerTimeout == standard.headerTimeout && own.handshakeTimeout == standard.handshakeTimeout)
    #expect(own.idleTimeout == standard.idleTimeout && own.streamIdleTimeout == nil)
  }

  @Test func `what is written holds`() throws {
    let own = try options(
      """
      {"memoryMegabytes": 256, "connections": 2000, "connectionsPerSource": 100, "headerSeconds": 5,
       "handshakeSeconds": 3, "idleSeconds": 60, "streamIdleSeconds": 300}
      """)
    #expect(own.overload.memoryBytes == 256 << 20)
    #expect(own.overload.connections == 2000 && own.overload.connectionsPerSource == 100)
    #expect(own.headerTimeout == .seconds(5) && own.handshakeTimeout == .seconds(3))
    #expect(own.idleTimeout == .seconds(60) && own.streamIdleTimeout == .seconds(300))
    // One client cannot have more than half where only the whole is said.
    #expect(try options("{\"connections\": 1000}").overload.connectionsPerSource <= 500)
  }

  @Test(arguments: [
    ("{\"memoryMegabytes\": 8}", ["memoryMegabytes", "from 32 to"]),
    ("{\"connections\": \"many\"}", ["connections", "must be a number"]),
    ("{\"idleSeconds\": 0}", ["idleSeconds", "from 1 to 86400"]),
    ("{\"conections\": 5}", ["unknown key 'conections'", "connections"]),
    ("{\"connections\": 100, \"connectionsPerSource\": 200}", ["connectionsPerSource", "one client could take them all"]),
    ("[]", ["limits must be an object"]),
  ])
  func `what cannot be is refused in words`(limits: String, says: [String]) {
    do throws(ClusterFileError) {
      _ = try parse(limits)
      Issue.record("accepted: \(limits)")
    } catch {
      for words in says { #expect(error.description.contains(words), "\(error.description)") }
    }
  }
}
