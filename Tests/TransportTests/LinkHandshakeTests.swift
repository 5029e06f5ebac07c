import Primitives
import Testing

@testable import Transport

/// Two sides of a handshake over one pretended TLS connection.
private struct Sides {
  var caller: LinkHandshake
  var host: LinkHandshake
  static func label(_ text: String) throws -> DNSLabel { try DNSLabel(text) }

  struct Side {
    var name = "n1"
    var cluster = "test"
    var incarnation: UInt64 = 1
    var secret: [UInt8]? = [UInt8](repeating: 7, count: 32)
    var exporter = [UInt8](repeating: 1, count: 32)
    /// Whether the other side's bundle holds this side's authority.
    var isTrusted = false
    /// The node its certificate names, when it is another.
    var certified: String?
    /// Whether its certificate chains to the authority it offers.
    var isChained = true
    var authority: [UInt8] = [1, 2, 3]
    var dialled: String?
    var token: LinkToken?
    /// What it says to every token.
    var answer = LinkTokenAnswer.refused("unknown")
    var versions = ProtocolRange.links
    var wall: UInt64?
  }

  static func make(_ side: Side, role: PeerRole, peer: Side) throws -> LinkHandshake {
    let local = LocalNode(
      name: try label(side.name), cluster: try label(side.cluster), incarnation: side.incarnation, trustDomain: "cluster.local",
      address: .ip(.loopback, port: 15010))
    let identity = try SPIFFEID.node(trustDomain: "cluster.local", name: try label(peer.certified ?? peer.name))
    let channel = LinkHandshake.Channel(
      role: role, exporter: side.exporter, identity: peer.isTrusted ? .success(identity) : .failure(.unknownAuthority),
      identityUnder: { $0 == [peer.authority] && peer.isChained ? .success(identity) : .failure(.unknownAuthority) })
    let answer = side.answer
    let wall = side.wall
    return LinkHandshake(
      LinkHandshake.Local(
        node: local, authorities: [side.authority], joinSecret: side.secret, dialled: try side.dialled.map(label),
        versions: side.versions, token: side.token, judgeToken: { _, _, _ in answer }, wallSeconds: { wall }), channel)
  }

  /// Exchanges frames until nothing more is sent; who was established, and who refused why.
  mutating func meet() -> (established: [LinkHandshake.Peer], refusals: [LinkHandshake.Refusal]) {
    var established: [LinkHandshake.Peer] = []
    var refusals: [LinkHandshake.Refusal] = []
    var toHost = [caller.hello]
    var toCaller = [host.hello]
    while !toHost.isEmpty || !toCaller.isEmpty {
      let atHost = toHost.flatMap { host.receive($0) { _ in nil } }
      let atCaller = toCaller.flatMap { caller.receive($0) { _ in nil } }
      (toHost, toCaller) = ([], [])
      for (effects, isHost) in [(atHost, true), (atCaller, false)] {
        for effect in effects {
          switch effect {
          case .send(let frame): if isHost { toCaller.append(frame) } else { toHost.append(frame) }
          case .established(let peer): established.append(peer)
          case .refuse(let refusal): refusals.append(refusal)
          case .refused, .fail: break
          }
        }
      }
    }
    return (established, refusals)
  }

  init(caller: Side, host: Side) throws {
    self.caller = try Self.make(caller, role: .client, peer: host)
    self.host = try Self.make(host, role: .server, peer: caller)
  }

  /// Lets the host judge the caller's Hello.
  mutating func judge(
    _ hello: Frame? = nil, admit: (LinkHandshake.Peer) -> LinkHandshake.Refusal? = { _ in nil }
  ) -> [LinkHandshake.Effect] {
    host.receive(hello ?? caller.hello, admit: admit)
  }
}

private func refusal(_ effects: [LinkHandshake.Effect]) -> LinkHandshake.Refusal? {
  for case .refuse(let refusal) in effects { return refusal }
  return nil
}

@Suite("Link handshake") struct LinkHandshakeTests {
  @Test("two Hellos and two Welcomes establish the link on both sides") func establish() throws {
    var sides = try Sides(caller: .init(name: "n1"), host: .init(name: "n2"))
    var established: [LinkHandshake.Peer] = []
    var toHost = [sides.caller.hello]
    var toCaller = [sides.host.hello]
    while !toHost.isEmpty || !toCaller.isEmpty {
      let atHost = toHost.flatMap { sides.host.receive($0) { _ in nil } }
      let atCaller = toCaller.flatMap { sides.caller.receive($0) { _ in nil } }
      (toHost, toCaller) = ([], [])
      for effect in atHost {
        if case .send(let frame) = effect { toCaller.append(frame) }
        if case .established(let peer) = effect { established.append(peer) }
      }
      for effect in atCaller {
        if case .send(let frame) = effect { toHost.append(frame) }
        if case .established(let peer) = effect { established.append(peer) }
      }
    }
    #expect(Set(established.map(\.node.string)) == ["n1", "n2"])
    #expect(established.allSatisfy { $0.trust == .joinSecret && $0.authorities == [[1, 2, 3]] })
  }

  struct Case: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var code: LinkRejection?
    fileprivate var caller: Sides.Side
    fileprivate var host = Sides.Side(name: "host")
  }

  static let cases: [Case] = [
    Case(testDescription: "proof of the join secret", code: nil, caller: .init()),
    Case(testDescription: "a trusted authority, no secret", code: nil, caller: .init(secret: nil, isTrusted: true)),
    Case(
      testDescription: "a trusted authority, and a wrong secret that is not looked at", code: nil,
      caller: .init(secret: [UInt8](repeating: 9, count: 32), isTrusted: true)),
    Case(
      testDescription: "a wrong secret", code: .joinSecretMismatch, caller: .init(secret: [UInt8](repeating: 9, count: 32))),
    Case(testDescription: "no secret", code: .joinSecretMissing, caller: .init(secret: nil)),
    Case(
      testDescription: "a host without secret", code: .untrustedCertificate, caller: .init(),
      host: .init(name: "host", secret: nil)),
    Case(
      testDescription: "a proof of another connection", code: .joinSecretMismatch,
      caller: .init(exporter: [UInt8](repeating: 2, count: 32))),
    Case(
      testDescription: "a chain to another authority", code: .untrustedCertificate, caller: .init(isChained: false)),
    Case(testDescription: "another node's certificate", code: .identityMismatch, caller: .init(certified: "n9")),
    Case(
      testDescription: "another node's trusted certificate", code: .identityMismatch,
      caller: .init(isTrusted: true, certified: "n9")),
    Case(testDescription: "another cluster", code: .wrongCluster, caller: .init(cluster: "other")),
    Case(testDescription: "itself", code: .selfConnection, caller: .init(name: "host", incarnation: 1)),
    Case(testDescription: "a namesake", code: .nameInUse, caller: .init(name: "host", incarnation: 2)),
    Case(
      testDescription: "another node than was dialled", code: .identityMismatch, caller: .init(),
      host: .init(name: "host", dialled: "n5")),
  ]

  @Test("a caller is judged", arguments: cases) func judged(_ test: Case) throws {
    var sides = try Sides(caller: test.caller, host: test.host)
    let effects = sides.judge()
    #expect(refusal(effects)?.code == test.code)
    guard case .send(let answer) = effects.first else {
      Issue.record("no answer was sent")
      return
    }
    #expect(answer.kind == (test.code == nil ? .welcome : .reject))
    if let code = test.code {
      #expect(try LinkNotice(parsing: answer.body).code == code.rawValue)
      #expect(sides.host.receive(Frame(kind: .welcome, lane: .urgent)) { _ in nil }.isEmpty, "a refused peer stays refused")
    }
  }

  @Test("a Hello sent back to its sender proves nothing: the direction is part of the proof") func reflected() throws {
    // The reflected Hello names the host itself; with its name forged, the proof fails.
    var sides = try Sides(caller: .init(name: "n1"), host: .init(name: "host"))
    var hello = try LinkHello(parsing: sides.host.hello.body)
    hello.node = try DNSLabel("n1")
    #expect(refusal(sides.judge(Frame(kind: .hello, lane: .urgent, body: hello.body)))?.code == .joinSecretMismatch)
  }

  @Test("what is offered is part of the proof") func substitutedAuthority() throws {
    var sides = try Sides(caller: .init(), host: .init(name: "host"))
    var hello = try LinkHello(parsing: sides.caller.hello.body)
    hello.authorities = [[9, 9, 9]]
    #expect(refusal(sides.judge(Frame(kind: .hello, lane: .urgent, body: hello.body)))?.code == .joinSecretMismatch)
  }

  @Test("versions without a common one are refused, and the words say which to upgrade") func versions() throws {
    var sides = try Sides(caller: .init(), host: .init(name: "host"))
    var hello = try LinkHello(parsing: sides.caller.hello.body)
    hello.versions = ProtocolRange(2...3)
    let refused = refusal(sides.judge(Frame(kind: .hello, lane: .urgent, body: hello.body)))
    #expect(refused?.code == .versionMismatch)
    #expect(refused?.here.contains("protocol 2 to 3, this node 1 to 1") == true)
  }

  @Test("fields that a newer version adds are skipped") func newerHello() throws {
    var sides = try Sides(caller: .init(), host: .init(name: "host"))
    let body = sides.caller.hello.body + [1, 2, 3]
    #expect(refusal(sides.judge(Frame(kind: .hello, lane: .urgent, body: body))) == nil)
  }

  @Test("a peer that is otherwise accepted is refused when the cluster declines it") func declined() throws {
    var sides = try Sides(caller: .init(), host: .init(name: "host"))
    let effects = sides.judge { .init(code: .declined, node: $0.node, here: "removed", there: "removed") }
    #expect(refusal(effects)?.code == .declined)
  }

  @Test("every truncation of a Hello, and random bytes, are refused without a trap", arguments: 0..<20)
  func damaged(_ seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let good = try Sides(caller: .init(), host: .init(name: "host")).caller.hello.body
    // An older version's Hello ends before the token's mark and the clock; it is whole.
    let older = good.count - 9
    for count in 0..<good.count where count % 20 == Int(seed) && count != older {
      var sides = try Sides(caller: .init(), host: .init(name: "host"))
      let frame = Frame(kind: .hello, lane: .urgent, body: Array(good.prefix(count)))
      #expect(refusal(sides.judge(frame))?.code == .malformedHello)
    }
    var bytes = good
    for _ in 0..<3 { bytes[random.index(below: bytes.count)] ^= UInt8(1 << random.index(below: 8)) }
    var sides = try Sides(caller: .init(), host: .init(name: "host"))
    #expect(bytes == good || !sides.judge(Frame(kind: .hello, lane: .urgent, body: bytes)).isEmpty)
  }

  @Test("nothing else is accepted before the handshake is finished", arguments: [FrameKind.raft, .request, .ping, .goodbye])
  func early(_ kind: FrameKind) throws {
    var sides = try Sides(caller: .init(), host: .init(name: "host"))
    guard case .fail = sides.judge(Frame(kind: kind, lane: .urgent)).first else {
      Issue.record("it was not refused")
      return
    }
  }

  @Test("words from a peer that would forge log lines are not taken over") func forgedWords() throws {
    var sides = try Sides(caller: .init(), host: .init(name: "host"))
    let notice = LinkNotice(code: 3, text: "fine\nn9 was refused")
    guard case .fail = sides.judge(Frame(kind: .reject, lane: .urgent, body: notice.body)).first else {
      Issue.record("the text was taken over")
      return
    }
  }
}

@Suite("Two links to one peer") struct LinkPreferenceTests {
  @Test("both ends choose the same link, in whatever order they see the two") func agreement() throws {
    let (a, b) = (try NodeName("a"), try NodeName("b"))
    for replacements in [(false, false), (true, true), (true, false), (false, true)] {
      let byA = LinkPreference.Candidate(
        dialler: a, incarnation: 1, isReplacement: replacements.0, establishedAt: Instant(nanoseconds: 1_000))
      let byB = LinkPreference.Candidate(
        dialler: b, incarnation: 1, isReplacement: replacements.1, establishedAt: Instant(nanoseconds: 2_000))
      func winner(_ first: LinkPreference.Candidate, _ second: LinkPreference.Candidate, at node: NodeName) -> NodeName {
        let other = node == a ? b : a
        return LinkPreference.choose(existing: first, new: second, local: node, peer: other) == .keep
          ? first.dialler : second.dialler
      }
      let seen = Set([winner(byA, byB, at: a), winner(byB, byA, at: a), winner(byA, byB, at: b), winner(byB, byA, at: b)])
      #expect(seen.count == 1)
      if replacements == (false, false) { #expect(seen == [a]) }
    }
  }

  @Test("a restarted peer's link drops the old one") func restarted() throws {
    let (a, b) = (try NodeName("a"), try NodeName("b"))
    let old = LinkPreference.Candidate(dialler: a, incarnation: 1, isReplacement: false, establishedAt: .zero)
    let new = LinkPreference.Candidate(dialler: b, incarnation: 2, isReplacement: false, establishedAt: .zero)
    #expect(LinkPreference.choose(existing: old, new: new, local: a, peer: b) == .drop)
  }
}

@Suite("Failed proofs") struct ProofLimiterTests {
  @Test("a source that keeps guessing is shut out for the window, and others are not") func limit() {
    var limiter = ProofLimiter()
    let (guesser, other) = (IPAddress.v4(1), IPAddress.v4(2))
    for second in 0..<LinkLimits.failedProofsMax {
      #expect(!limiter.isShutOut(guesser, now: .zero + .seconds(second)))
      limiter.recordFailure(from: guesser, now: .zero + .seconds(second))
    }
    #expect(limiter.isShutOut(guesser, now: .zero + .seconds(30)))
    #expect(!limiter.isShutOut(other, now: .zero + .seconds(30)))
    #expect(!limiter.isShutOut(guesser, now: .zero + LinkLimits.proofWindow))
  }

  @Test("the table of sources is bounded") func bounded() {
    var limiter = ProofLimiter()
    for source in 0..<UInt32(LinkLimits.failedProofSourcesMax * 2) {
      limiter.recordFailure(from: .v4(source), now: Instant(nanoseconds: UInt64(source)))
    }
    #expect(limiter.count == LinkLimits.failedProofSourcesMax)
  }
}

@Suite("Join tokens on links") struct LinkTokenTests {
  private static let key = [UInt8](repeating: 5, count: 32)
  private let token = LinkToken(id: 7, key: LinkTokenTests.key)

  @Test("a token proves both sides to each other") func both() throws {
    var sides = try Sides(
      caller: .init(name: "n4", secret: nil, token: token), host: .init(name: "n1", answer: .key(Self.key)))
    let meeting = sides.meet()
    #expect(meeting.refusals.isEmpty)
    #expect(Set(meeting.established.map(\.trust)) == [.token(7), .ownToken])
  }

  @Test("whoever does not know the secret of the token is refused, on either side") func wrong() throws {
    var guesser = try Sides(
      caller: .init(name: "n4", secret: nil, token: LinkToken(id: 7, key: [UInt8](repeating: 6, count: 32))),
      host: .init(name: "n1", answer: .key(Self.key)))
    #expect(guesser.meet().refusals.map(\.code) == [.tokenRefused])
    var impostor = try Sides(
      caller: .init(name: "n4", secret: nil, token: token),
      host: .init(name: "n1", answer: .key([UInt8](repeating: 6, count: 32))))
    let meeting = impostor.meet()
    #expect(meeting.established.isEmpty && meeting.refusals.allSatisfy { $0.code == .tokenRefused })
  }

  @Test("a host that welcomes without the proof of the token is not believed") func silent() throws {
    // It trusts the caller's certificate, and does not know the token.
    var sides = try Sides(
      caller: .init(name: "n4", secret: nil, isTrusted: true, token: token), host: .init(name: "n1"))
    let meeting = sides.meet()
    #expect(!meeting.established.contains { $0.node.string == "n1" })
    #expect(meeting.refusals.map(\.code) == [.tokenRefused])
  }

  @Test("a token of another connection proves nothing") func relayed() throws {
    var sides = try Sides(
      caller: .init(name: "n4", secret: nil, exporter: [UInt8](repeating: 9, count: 32), token: token),
      host: .init(name: "n1", answer: .key(Self.key)))
    #expect(sides.meet().established.isEmpty)
  }

  @Test("an expired token is refused in words for its bearer") func expired() throws {
    var sides = try Sides(
      caller: .init(name: "n4", secret: nil, token: token),
      host: .init(name: "n1", answer: .refused("the join token has expired")))
    #expect(sides.meet().refusals.first?.there == "the join token has expired")
  }

  @Test("clocks that differ are noticed") func clocks() throws {
    var sides = try Sides(caller: .init(name: "n1", wall: 1_700_000_100), host: .init(name: "n2", wall: 1_700_000_000))
    #expect(Set(sides.meet().established.map(\.clockLead)) == [100, -100])
  }
}

@Suite("Rolling upgrades") struct LinkUpgradeTests {
  @Test("a node one version behind and one ahead both link to the present one, and not to each other") func neighbours() throws
  {
    let behind = ProtocolRange(1...1)
    let present = ProtocolRange(1...2)
    let ahead = ProtocolRange(2...3)
    func meet(_ a: ProtocolRange, _ b: ProtocolRange) throws -> (versions: Set<UInt16>, refusal: LinkHandshake.Refusal?) {
      var sides = try Sides(caller: .init(name: "n1", versions: a), host: .init(name: "n2", versions: b))
      let meeting = sides.meet()
      return (Set(meeting.established.map(\.version)), meeting.refusals.first)
    }
    #expect(try meet(behind, present).versions == [1])
    #expect(try meet(ahead, present).versions == [2])
    let apart = try meet(behind, ahead)
    #expect(apart.versions.isEmpty && apart.refusal?.code == .versionMismatch)
    #expect(apart.refusal?.there.contains("upgrade the older one") == true)
  }
}
