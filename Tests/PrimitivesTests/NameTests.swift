import Primitives
import Testing

@Suite struct NameTests {
  @Test(arguments: ["a", "0", "n1", "reviews-v1", "a--b", String(repeating: "x", count: 63)])
  func labels(text: String) throws {
    #expect(try DNSLabel(text).string == text)
  }

  @Test(arguments: [
    "", "-a", "a-", "-", "A", "a.b", "a_b", "a b", "a/b", "..", "ä", "\u{212A}", "a\u{0}", String(repeating: "x", count: 64),
  ])
  func textsThatAreNoLabels(text: String) {
    #expect(throws: NameError.self) { try DNSLabel(text) }
  }

  @Test func labelsAreOrderedByTheirBytes() throws {
    let names = try ["b", "a-b", "a", "a0", "10", "9"].map { try DNSLabel($0) }
    #expect(names.sorted().map(\.string) == ["10", "9", "a", "a-b", "a0", "b"])
  }

  @Test(arguments: [
    "spiffe://cluster.local/ns/default/sa/bookinfo-reviews", "spiffe://cluster.local/node/n1", "spiffe://a/B.c_d-9",
    "spiffe://my_domain.example/x",
  ])
  func spiffeIDs(text: String) throws {
    #expect(try SPIFFEID(parsing: text).description == text)
  }

  @Test(arguments: [
    "", "spiffe://", "spiffe://cluster.local", "spiffe://cluster.local/", "spiffe:///node/n1", "SPIFFE://cluster.local/node/n1",
    "https://cluster.local/node/n1", "spiffe://Cluster.local/node/n1", "spiffe://cluster.local:80/node/n1",
    "spiffe://user@cluster.local/node/n1", "spiffe://cluster.local/node/n1/", "spiffe://cluster.local//n1",
    "spiffe://cluster.local/./n1", "spiffe://cluster.local/node/..", "spiffe://cluster.local/node/n1?x",
    "spiffe://cluster.local/node/n1#x", "spiffe://cluster.local/node/%6E1", "spiffe://cluster.local/node/n\u{0}",
    "spiffe://cluster.local/n\u{F6}de/n1", "spiffe://cluster.local/node/@", "spiffe://cluster.local/node/[",
    "spiffe://\(String(repeating: "d", count: 256))/node/n1", "spiffe://d/" + String(repeating: "p", count: 2048),
  ])
  func textsThatAreNoSPIFFEIDs(text: String) {
    #expect(throws: NameError.self) { try SPIFFEID(parsing: text) }
  }

  @Test func anIdentityIsANodesOrAWorkloadsOrNeither() throws {
    let node = try SPIFFEID.node(trustDomain: "cluster.local", name: DNSLabel("n1"))
    #expect(node.node?.string == "n1")
    #expect(node.workload == nil)
    let workload = try SPIFFEID.workload(trustDomain: "cluster.local", namespace: "default", serviceAccount: "reviews")
    #expect(workload.node == nil)
    #expect(workload.workload?.namespace == "default")
    #expect(workload.workload?.serviceAccount == "reviews")
    for other in [
      "spiffe://d/node", "spiffe://d/node/n1/x", "spiffe://d/ns/a/sa", "spiffe://d/sa/a/ns/b", "spiffe://d/node/N1",
    ] {
      let id = try SPIFFEID(parsing: other)
      #expect(id.node == nil)
      #expect(id.workload == nil)
    }
  }

  @Test func aSegmentCannotBringFurtherSegments() {
    #expect(throws: NameError.self) {
      try SPIFFEID.workload(trustDomain: "d", namespace: "default/sa/admin", serviceAccount: "x")
    }
  }
}
