import Consensus
import Primitives
import Testing

/// Tokens, joins, postures, gossip keys and the forgetting of nodes, as the log decides them.
struct NodeCommandTests {
  private let start: UInt64 = 1_700_000_000_000

  private func token(_ number: UInt64, uses: UInt32 = 1, seconds: UInt64 = 60) -> JoinToken {
    JoinToken(
      id: JoinTokenID(number), verifier: [UInt8](repeating: UInt8(number & 0xFF), count: 32), createdAt: start,
      expiresAt: start + seconds * 1000, uses: uses, author: "test")
  }

  private func join(_ node: String, _ number: UInt64, after seconds: UInt64 = 1, authority: String? = nil) -> Command {
    .joinByToken(
      TokenJoin(
        token: JoinTokenID(number),
        node: AdmittedNode(name: name(node), address: "127.0.0.9:15010", locality: "a/b/c", canIssue: true),
        certificate: Array((authority ?? "authority of \(node)").utf8), at: start + seconds * 1000))
  }

  @Test func `a token lets in as many nodes as it was made for`() throws {
    var bench = ControlBench()
    _ = try bench.apply(.createToken(token(7, uses: 2)))
    #expect(try bench.apply(join("n4", 7)) == .applied(revision: .zero))
    #expect(try bench.apply(join("n5", 7)) == .applied(revision: .zero))
    #expect(try bench.apply(join("n6", 7)) == .invalid(.tokenUsed))
    #expect(bench.state.nodes.keys.sorted() == [name("n4"), name("n5")])
    #expect(bench.state.trust.anchors.map(\.node) == [name("n4"), name("n5")])
    #expect(bench.state.token(JoinTokenID(7))?.joined == [name("n4"), name("n5")])
  }

  @Test func `a node that proves its token twice uses it once`() throws {
    var bench = ControlBench()
    _ = try bench.apply(.createToken(token(7)))
    _ = try bench.apply(join("n4", 7))
    #expect(try bench.apply(join("n4", 7)) == .unchanged(revision: .zero))
    #expect(bench.state.token(JoinTokenID(7))?.usesLeft == 0)
  }

  @Test func `an expired, a revoked and an unknown token let nobody in`() throws {
    var bench = ControlBench()
    _ = try bench.apply(.createToken(token(7)))
    #expect(try bench.apply(join("n4", 7, after: 60)) == .invalid(.tokenExpired))
    _ = try bench.apply(.revokeToken(JoinTokenID(7)))
    #expect(try bench.apply(join("n4", 7)) == .invalid(.tokenUnknown))
    #expect(try bench.apply(join("n4", 8)) == .invalid(.tokenUnknown))
    #expect(bench.state.nodes.isEmpty && bench.state.trust.anchors.isEmpty)
  }

  @Test func `a token does not give away a name that another node has`() throws {
    var bench = ControlBench()
    _ = try bench.apply(.addTrustAnchor(node: name("n1"), certificate: Array("authority of n1".utf8)))
    _ = try bench.apply(.createToken(token(7, uses: 5)))
    #expect(try bench.apply(join("n1", 7, authority: "a thief's")) == .invalid(.nameInUse))
    #expect(bench.state.trust.anchors.count == 1)
  }

  @Test func `a forgotten node comes back under its name with a new authority`() throws {
    var bench = ControlBench()
    _ = try bench.apply(.createToken(token(7, uses: 5)))
    _ = try bench.apply(join("n4", 7))
    _ = try bench.apply(.setPosture(name("n4"), .gone))
    #expect(try bench.apply(.forgetNode(name("n4"))) == .applied(revision: .zero))
    #expect(bench.state.trust.anchors.isEmpty && bench.state.nodes.isEmpty && bench.state.posture(of: name("n4")) == .active)
    #expect(try bench.apply(.forgetNode(name("n4"))) == .unchanged(revision: .zero))
    #expect(try bench.apply(join("n4", 7, authority: "its new one")) == .applied(revision: .zero))
  }

  @Test func `forgetting the holder of a role makes the role free`() throws {
    var bench = ControlBench()
    try bench.assignRoles()
    _ = try bench.apply(.addTrustAnchor(node: name("n1"), certificate: [1]))
    _ = try bench.apply(.forgetNode(name("n1")))
    #expect(Role.allCases.allSatisfy { bench.state.roles[$0].holder == nil && bench.state.roles[$0].epoch == RoleEpoch(1) })
  }

  @Test func `expired tokens go when the next one is made, and their number is bounded`() throws {
    var bench = ControlBench()
    for number in 0..<UInt64(ConsensusLimits.tokensMax) { _ = try bench.apply(.createToken(token(number, seconds: 10))) }
    #expect(try bench.apply(.createToken(token(5000))) == .limit(.tokens))
    let later = JoinToken(
      id: JoinTokenID(5000), verifier: [UInt8](repeating: 1, count: 32), createdAt: start + 10_000,
      expiresAt: start + 20_000, uses: 1, author: "test")
    #expect(try bench.apply(.createToken(later)) == .applied(revision: .zero))
    #expect(bench.state.tokens == [later])
  }

  @Test func `gossip keys follow each other and the two newest are kept`() throws {
    var bench = ControlBench()
    for id in [2, 3, 4] as [UInt8] {
      let key = GossipKey(id: id, bytes: [UInt8](repeating: id, count: 32))
      #expect(try bench.apply(.addGossipKey(key)) == .applied(revision: .zero))
      // Another node had the same thought.
      #expect(try bench.apply(.addGossipKey(key)) == .conflict(revision: .zero))
    }
    #expect(bench.state.gossipKeys.map(\.id) == [3, 4])
  }

  @Test func `a role is transferred only to a node of the cluster, and the wish ends with the move`() throws {
    var bench = ControlBench()
    try bench.assignRoles()
    #expect(try bench.apply(.transferRole(.discovery, to: name("n2"))) == .invalid(.unknownNode))
    _ = try bench.apply(.addTrustAnchor(node: name("n2"), certificate: [1]))
    #expect(try bench.apply(.transferRole(.discovery, to: name("n2"))) == .applied(revision: .zero))
    #expect(bench.state.roles[.discovery].preferred == name("n2"))
    _ = try bench.apply(grant(.discovery, "n2", 2))
    #expect(bench.state.roles[.discovery].preferred == nil && bench.state.roles[.discovery].holder == name("n2"))
  }

  @Test func `an old holder that wakes up is refused whatever it tries`() throws {
    var bench = ControlBench()
    try bench.assignRoles()
    _ = try bench.apply(.addTrustAnchor(node: name("n1"), certificate: [1]))
    let anchor = try #require(bench.state.trust.anchors.first)
    for role in Role.allCases { _ = try bench.apply(grant(role, "n2", 2)) }
    let before = bench.state
    let old = RoleEpoch(1)
    let address = try #require(ServiceAddress(host: 7))
    let acts: [Command] = [
      change(["a": "1"], request: 1, epoch: 1), .removeTrustAnchor(fingerprint: anchor.fingerprint, epoch: old),
      .allocateAddresses([AddressAllocation(host: "a.b", address: address)], epoch: old), .freeAddresses(["a.b"], epoch: old),
      .releaseRole(.configuration, old), .releaseRole(.certificateAuthority, old), .releaseRole(.discovery, old),
      grant(.configuration, "n1", 2),
    ]
    for act in acts { #expect(try bench.apply(act) == .staleEpoch(current: RoleEpoch(2)), "\(act)") }
    #expect(bench.state.roles == before.roles && bench.state.trust == before.trust && bench.state.objects.isEmpty)
  }

  @Test func `everything about nodes survives a snapshot, and an older snapshot is still read`() throws {
    var bench = ControlBench()
    try bench.assignRoles()
    _ = try bench.apply(.createToken(token(7, uses: 5)))
    _ = try bench.apply(join("n4", 7))
    _ = try bench.apply(.setPosture(name("n9"), .draining))
    _ = try bench.apply(.addGossipKey(GossipKey(id: 2, bytes: [UInt8](repeating: 2, count: 32))))
    _ = try bench.apply(.transferRole(.discovery, to: name("n4")))
    #expect(try ControlState(restoring: bench.state.snapshot()) == bench.state)
    // Version 1 ended before the configuration and the counts of tokens, keys, postures, preferences and revisions.
    var plain = ControlBench()
    try plain.assignRoles()
    var bytes = Array(plain.state.snapshot().dropLast(Digest.byteCount + 7))
    bytes[0] = 1
    #expect(try ControlState(restoring: bytes + SHA256.digest(of: bytes).bytes) == plain.state)
  }
}

/// Moves that an operator asks for.
struct RoleTransferTests {
  @Test func `a holder that is asked to hand its role over stops acting before it gives it back`() {
    var lease = RoleLease(local: name("n1"))
    var table = RoleTable()
    let now = Instant(nanoseconds: 1_000_000_000)
    table[.discovery] = RoleState(holder: name("n1"), epoch: RoleEpoch(1))
    var effects: [RoleLeaseEffect] = []
    lease.handle(.roles(table), at: now, into: &effects)
    lease.handle(.acknowledged(RoleRenewal(role: .discovery, epoch: RoleEpoch(1), sentAt: now)), at: now, into: &effects)
    #expect(lease.epoch(of: .discovery, at: now) == RoleEpoch(1))
    var bench = ControlBench()
    _ = try? bench.apply(grant(.discovery, "n1", 1))
    _ = try? bench.apply(.addTrustAnchor(node: name("n2"), certificate: [1]))
    _ = try? bench.apply(.transferRole(.discovery, to: name("n2")))
    effects = []
    lease.handle(.roles(bench.state.roles), at: now, into: &effects)
    #expect(effects == [.lost(.discovery, RoleEpoch(1)), .release(.discovery, RoleEpoch(1))])
    #expect(lease.epoch(of: .discovery, at: now) == nil)
  }

  @Test func `an epoch that was given back is never acted under again, even when the node stays`() {
    var lease = RoleLease(local: name("n1"))
    var table = RoleTable()
    var effects: [RoleLeaseEffect] = []
    table[.discovery] = RoleState(holder: name("n1"), epoch: RoleEpoch(1))
    lease.handle(.roles(table), at: .zero, into: &effects)
    lease.handle(.leaving, at: .zero, into: &effects)
    lease.handle(.staying, at: .zero, into: &effects)
    // The word that it gave the role back may be on its way still: whoever leads may assign the role at any moment.
    effects = []
    lease.handle(.roles(table), at: .zero, into: &effects)
    #expect(effects.isEmpty)
    table[.discovery] = RoleState(holder: name("n1"), epoch: RoleEpoch(2))
    lease.handle(.roles(table), at: .zero, into: &effects)
    #expect(effects == [.renew(RoleRenewal(role: .discovery, epoch: RoleEpoch(2), sentAt: .zero))])
  }

  @Test func `a node that stays again takes roles again`() {
    var lease = RoleLease(local: name("n1"))
    var table = RoleTable()
    var effects: [RoleLeaseEffect] = []
    lease.handle(.leaving, at: .zero, into: &effects)
    table[.discovery] = RoleState(holder: name("n1"), epoch: RoleEpoch(1))
    lease.handle(.roles(table), at: .zero, into: &effects)
    #expect(effects.isEmpty)
    lease.handle(.staying, at: .zero, into: &effects)
    lease.handle(.roles(table), at: .zero, into: &effects)
    #expect(effects == [.renew(RoleRenewal(role: .discovery, epoch: RoleEpoch(1), sentAt: .zero))])
  }
}
