import Cluster
import Membership
import Primitives
import Testing
import Transport

@testable import Nodes

/// `cluster.json`: what is accepted, and what every refusal says.
@Suite struct ClusterFileTests {
  private static let whole = """
    {
      "cluster": "shop",
      "nodes": [
        { "name": "a", "address": "192.0.2.1", "locality": "eu/1/x", "gateway": true },
        { "name": "b", "address": "192.0.2.2" }
      ]
    }
    """

  private func parse(_ text: String) throws(ClusterFileError) -> ClusterFile {
    try ClusterFile(parsing: Array(text.utf8), path: "etc/cluster.json")
  }

  @Test func `tenants are isolated where the file says so`() throws {
    #expect(try !parse(Self.whole).configuration.isolatesTenants)
    let isolated = Self.whole.replacing("\"nodes\"", with: "\"configuration\": {\"tenantIsolation\": true}, \"nodes\"")
    #expect(try parse(isolated).configuration.isolatesTenants)
    #expect(throws: ClusterFileError.self) { try parse(isolated.replacing("tenantIsolation", with: "tenantIsolaton")) }
  }

  @Test(arguments: ["", "\"configuration\": {\"tenantIsolation\": true}, ", "\"domain\": \"mesh.example.com\", "])
  func `a node that joins by token takes over what all nodes have in common`(more: String) throws {
    let file = try parse(Self.whole.replacing("\"nodes\"", with: more + "\"nodes\""))
    let contact = Seed(name: try NodeName("a"), address: NodeAddress(host: "192.0.2.1", port: 15010))
    let token = try JoinTokenText(parsing: file.newToken(contacts: [contact]).text)
    let text = ClusterFile.text(joining: token, as: try NodeName("c"), address: "192.0.2.3", locality: "")
    let joined = try parse(text)
    #expect(joined.hasJoined && joined.nodes.map(\.name.string) == ["c", "a"])
    #expect(joined.configuration == file.configuration && joined.domain == file.domain)
    #expect(joined.cluster == file.cluster && joined.ports == file.ports && joined.voters == file.voters)
  }

  @Test func `a file that names a cluster and nodes is enough`() throws {
    let file = try parse(Self.whole)
    #expect(file.cluster.string == "shop")
    #expect(file.nodes.map(\.name.string) == ["a", "b"])
    #expect(file.nodes[0].gateway && !file.nodes[1].gateway)
    #expect(file.trustDomain == "cluster.local")
    #expect(file.ports.mesh == 15008)
    #expect(file.dataDirectory(of: file.nodes[1]) == "etc/.mesh/b")
    #expect(file.joinSecretPath == "etc/.mesh/join-secret")
  }

  @Test(arguments: [(1, 1, 1), (2, 3, 1), (3, 3, 3), (4, 3, 3), (5, 3, 3), (5, 5, 5), (6, 7, 5)])
  func `the first nodes vote, in an odd number`(nodes: Int, voters: Int, expected: Int) throws {
    let list = (1...nodes).map { "{\"name\": \"n\($0)\", \"address\": \"192.0.2.\($0)\"}" }.joined(separator: ",")
    let file = try parse("{\"cluster\": \"c\", \"voters\": \(voters), \"nodes\": [\(list)]}")
    #expect(file.initialVoters.map(\.string) == (1...expected).map { "n\($0)" })
  }

  static let refusals: [(text: String, says: [String])] = [
    ("{", ["etc/cluster.json:", ":1:"]),
    ("[]", ["must be an object"]),
    (#"{"cluster": "c"}"#, ["nodes", "missing"]),
    (#"{"cluster": "c", "nodes": []}"#, ["at least one node"]),
    (#"{"cluster": "C!", "nodes": [{"name": "a", "address": "192.0.2.1"}]}"#, ["cluster", "not a name"]),
    (
      "{\"cluster\": \"c\",\n\"nodez\": [], \"nodes\": [{\"name\": \"a\", \"address\": \"192.0.2.1\"}]}",
      [":2:1", "unknown key 'nodez'"]
    ),
    (#"{"cluster": "c", "nodes": [{"name": "a", "address": "host"}]}"#, ["address", "not an IPv4 address"]),
    (
      #"{"cluster": "c", "nodes": [{"name": "a", "address": "192.0.2.1"}, {"name": "a", "address": "192.0.2.2"}]}"#,
      ["already used"]
    ),
    (
      #"{"cluster": "c", "nodes": [{"name": "a", "address": "192.0.2.1"}, {"name": "b", "address": "192.0.2.1"}]}"#,
      ["already used by a"]
    ),
    (#"{"cluster": "c", "voters": 4, "nodes": [{"name": "a", "address": "192.0.2.1"}]}"#, ["voters", "1, 3, 5 or 7"]),
    (#"{"cluster": "c", "voters": "3", "nodes": [{"name": "a", "address": "192.0.2.1"}]}"#, ["voters", "must be a number"]),
    (#"{"cluster": "c", "dataDirectory": "data", "nodes": [{"name": "a", "address": "192.0.2.1"}]}"#, ["{node}"]),
    (
      #"{"cluster": "c", "ports": {"mesh": 15010}, "nodes": [{"name": "a", "address": "192.0.2.1"}]}"#,
      ["two of them are the same"]
    ),
    (#"{"cluster": "c", "trustDomain": "Bad Domain", "nodes": [{"name": "a", "address": "192.0.2.1"}]}"#, ["trustDomain"]),
    (#"{"cluster": "c", "cluster": "d", "nodes": [{"name": "a", "address": "192.0.2.1"}]}"#, ["cluster"]),
  ]

  @Test(arguments: refusals)
  func `what is wrong is refused with its place and reason`(text: String, says: [String]) {
    do throws(ClusterFileError) {
      _ = try parse(text)
      Issue.record("accepted: \(text)")
    } catch {
      for words in says { #expect(error.description.contains(words), "\(error.description)") }
    }
  }
}
