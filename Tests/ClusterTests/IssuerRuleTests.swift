import Consensus
import Primitives
import Testing

@testable import Cluster

/// A new authority signs nothing until every live node reports the bundle that has it.
struct IssuerRuleTests {
  /// The anchors after one entry a node: entry 1 adds n1's, entry 2 adds n2's, and so on.
  private func anchors(_ nodes: [String]) throws -> [TrustAnchor] {
    var state = ControlState()
    for (number, node) in nodes.enumerated() {
      let command = Command.addTrustAnchor(node: try NodeName(node), certificate: [UInt8(number)])
      _ = try state.apply(
        LogEntry(index: state.applied.index.next, term: Term(1), payload: .command(command.encoded())))
    }
    return state.trust.anchors
  }

  @Test(arguments: [
    ([3, 3, 3], ["n1", "n2", "n3"]), ([3, 2, 3], ["n1", "n2"]), ([3, 0, 3], []), ([9], ["n1", "n2", "n3"]), ([], []),
  ])
  func `only authorities that every live node has may issue`(versions: [UInt64], issuers: [String]) throws {
    let found = IssuerRule.issuers(anchors: try anchors(["n1", "n2", "n3"]), bundleVersions: versions)
    #expect(found.map(\.string).sorted() == issuers)
  }

  @Test func `during a rotation a node issues once its newest authority is known everywhere`() throws {
    let anchors = try anchors(["n1", "n2", "n1"])
    #expect(IssuerRule.issuers(anchors: anchors, bundleVersions: [2, 2]) == [try NodeName("n2")])
    #expect(IssuerRule.issuers(anchors: anchors, bundleVersions: [3, 3]).count == 2)
  }
}
