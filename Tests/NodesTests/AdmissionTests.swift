import Consensus
import Primitives
import Testing
import Transport

@testable import Nodes

/// The join secret lets a node in, but not under a name that is somebody's.
@Suite struct AdmissionTests {
  private func refusal(of node: String, trust: LinkTrust, offering: [[UInt8]], gone: String? = nil) throws -> String? {
    var state = ControlState()
    let known = Command.addTrustAnchor(node: try NodeName("n1"), certificate: [1])
    _ = try state.apply(LogEntry(index: state.applied.index.next, term: Term(1), payload: .command(known.encoded())))
    if let gone {
      let command = Command.setPosture(try NodeName(gone), .gone)
      _ = try state.apply(LogEntry(index: state.applied.index.next, term: Term(1), payload: .command(command.encoded())))
    }
    let admission = Admission(listed: [try NodeName("n1"), try NodeName("n2")], control: state)
    return admission.refusal(of: try NodeName(node), trust: trust, authorities: offering)
  }

  @Test func `a free name is given to whoever knows the join secret`() throws {
    #expect(try refusal(of: "n2", trust: .joinSecret, offering: [[2]]) == nil)
  }

  @Test func `a known name stays with its authority`() throws {
    #expect(try refusal(of: "n1", trust: .joinSecret, offering: [[1]]) == nil)
    #expect(try refusal(of: "n1", trust: .joinSecret, offering: [[2]])?.contains("another certificate authority") == true)
    #expect(try refusal(of: "n1", trust: .joinSecret, offering: [])?.contains("another certificate authority") == true)
  }

  @Test func `a certificate that the bundle proves is believed`() throws {
    #expect(try refusal(of: "n1", trust: .bundle, offering: [[3], [1]]) == nil)
    #expect(try refusal(of: "n2", trust: .bundle, offering: [[2]]) == nil)
  }

  @Test func `a certificate of an earlier life does not give back a name that another has by now`() throws {
    #expect(try refusal(of: "n1", trust: .bundle, offering: [[2]])?.contains("another certificate authority") == true)
  }

  @Test func `a token lets a node in that no file names, but not under a known name`() throws {
    #expect(try refusal(of: "n9", trust: .token(7), offering: [[9]]) == nil)
    #expect(try refusal(of: "n1", trust: .token(7), offering: [[9]])?.contains("mesh-node forget n1") == true)
    #expect(try refusal(of: "n1", trust: .token(7), offering: [[1]]) == nil)
  }

  @Test func `a node that is being forgotten has to wait`() throws {
    #expect(try refusal(of: "n2", trust: .joinSecret, offering: [[2]], gone: "n2")?.contains("being forgotten") == true)
    #expect(try refusal(of: "n1", trust: .bundle, offering: [[1]], gone: "n1")?.contains("being forgotten") == true)
  }

  @Test func `a name that the cluster file does not have is refused`() throws {
    #expect(try refusal(of: "n9", trust: .bundle, offering: [])?.contains("not among the nodes of cluster.json") == true)
  }
}
