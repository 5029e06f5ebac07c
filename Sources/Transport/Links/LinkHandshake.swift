import Primitives

/// The handshake of one link after TLS: two Hellos, judged by each side, and a Welcome from each.
///
/// A peer is believed when its certificate chains to the trust bundle, or when it proves the join secret on this very
/// connection and its certificate chains to the authority it offers. Either way the certificate must name the node it claims.
struct LinkHandshake {
  /// What this side is and knows.
  struct Local {
    var node: LocalNode
    var authorities: [[UInt8]]
    var joinSecret: [UInt8]?
    /// The node this side meant to reach; nil when it was called.
    var dialled: NodeName?
    var isReplacement = false
    var versions = ProtocolRange.links
    /// A join token that this side came with.
    var token: LinkToken?
    /// Judges a token that the peer says it has.
    var judgeToken: LinkTokenJudge = { _, _, _ in .refused("it knows no join tokens yet") }
    var wallSeconds: () -> UInt64? = { nil }
  }

  /// What TLS says of the connection and the peer.
  struct Channel {
    /// This side's part in TLS.
    var role: PeerRole
    var exporter: [UInt8]
    /// The identity under the trust bundle, or why there is none.
    var identity: Result<SPIFFEID, CertificateError>
    /// The identity when these authorities were trusted.
    var identityUnder: ([[UInt8]]) -> Result<SPIFFEID, CertificateError>
  }

  struct Peer: Hashable, Sendable {
    var node: NodeName
    var incarnation: UInt64
    var trust: LinkTrust
    var authorities: [[UInt8]]
    var isReplacement: Bool
    var version: UInt16
    /// The peer's wall clock less this side's, in seconds; nil when one of them is not known.
    var clockLead: Int64?
  }

  /// A refusal, in words for both sides.
  struct Refusal: Error, Hashable {
    var code: LinkRejection
    /// The node the peer claims to be, if it came to that.
    var node: NodeName?
    /// What follows "n4 at 127.0.0.4:50312 was refused: ".
    var here: String
    /// What follows "127.0.0.1:15010 (n1) refused this node: ".
    var there: String
  }

  enum Effect {
    case send(Frame)
    /// The peer is believed and believes this side.
    case established(Peer)
    /// This side refuses; its Reject is in an effect before.
    case refuse(Refusal)
    /// The peer refused this side.
    case refused(LinkRejection, String)
    /// The peer broke the rules of the handshake.
    case fail(String)
  }

  private let local: Local
  private let channel: Channel
  private var peer: Peer?
  private var isWelcome = false
  private var welcomeProof: [UInt8] = []
  private var isOver = false

  init(_ local: Local, _ channel: Channel) {
    self.local = local
    self.channel = channel
  }

  /// Whether the peer's Hello was accepted.
  var isPeerKnown: Bool { peer != nil }

  /// The first frame this side sends.
  var hello: Frame {
    let node = local.node
    let secretProof = local.joinSecret.map { proof(of: $0) }
    let token = local.token.map { LinkHello.TokenProof(id: $0.id, proof: proof(of: $0.key)) }
    let hello = LinkHello(
      versions: local.versions, cluster: node.cluster, node: node.name, incarnation: node.incarnation,
      isReplacement: local.isReplacement, authorities: local.authorities, proof: secretProof ?? [], token: token,
      wallSeconds: local.wallSeconds())
    return Frame(kind: .hello, lane: .urgent, body: hello.body)
  }

  /// Takes the next frame of the peer. `admit` is asked last, about a peer that is otherwise accepted.
  mutating func receive(_ frame: Frame, admit: (Peer) -> Refusal?) -> [Effect] {
    guard !isOver else { return [] }
    switch frame.kind {
    case .hello where peer == nil:
      do throws(Refusal) {
        let (accepted, answer) = try judge(frame.body)
        if let refusal = admit(accepted) { throw refusal }
        peer = accepted
        return [.send(Frame(kind: .welcome, lane: .urgent, body: answer))] + completion()
      } catch {
        return reject(error)
      }
    case .welcome where !isWelcome:
      isWelcome = true
      welcomeProof = frame.body
      return completion()
    case .reject:
      isOver = true
      guard let notice = try? LinkNotice(parsing: frame.body) else { return [.fail("it sent a refusal that cannot be read")] }
      return [.refused(LinkRejection(rawValue: notice.code) ?? .declined, notice.text)]
    default:
      isOver = true
      return [.fail("it sent \(frame.kind) before the handshake was finished")]
    }
  }

  private mutating func reject(_ refusal: Refusal) -> [Effect] {
    isOver = true
    let notice = LinkNotice(code: refusal.code.rawValue, text: refusal.there)
    return [.send(Frame(kind: .reject, lane: .urgent, body: notice.body)), .refuse(refusal)]
  }

  private mutating func completion() -> [Effect] {
    guard let peer, isWelcome else { return [] }
    if peer.trust == .ownToken, let token = local.token {
      let expected = proof(of: token.key, by: channel.role.other, node: peer.node, authorities: peer.authorities)
      guard constantTimeEqual(expected, welcomeProof) else {
        return reject(
          Refusal(
            code: .tokenRefused, node: peer.node, here: "it did not prove that it knows this node's join token",
            there: "it did not prove that it knows the join token of this node"))
      }
    }
    isOver = true
    return [.established(peer)]
  }

  /// What shows, on this connection and in this direction, that this side knows a key.
  private func proof(of key: [UInt8]) -> [UInt8] {
    proof(of: key, by: channel.role, node: local.node.name, authorities: local.authorities)
  }

  private func proof(of key: [UInt8], by role: PeerRole, node: NodeName, authorities: [[UInt8]]) -> [UInt8] {
    JoinProof.make(
      secret: key, role: role, exporter: channel.exporter, cluster: local.node.cluster, node: node, authorities: authorities)
  }

  /// The peer, and the body of this side's Welcome.
  private func judge(_ body: [UInt8]) throws(Refusal) -> (Peer, [UInt8]) {
    let hello: LinkHello
    do {
      hello = try LinkHello(parsing: body)
    } catch {
      throw Refusal(code: .malformedHello, here: "it is not a mesh-node of this kind", there: "the greeting cannot be read")
    }
    let version = try checkPlace(hello)
    let tokenKey = judgeToken(hello)
    let (identity, trust) = try believe(hello, tokenKey)
    guard identity.node == hello.node else {
      throw Refusal(
        code: .identityMismatch, node: hello.node, here: "its certificate names \(identity), not this node",
        there: "the certificate names \(identity), not node \(hello.node)")
    }
    let peer = Peer(
      node: hello.node, incarnation: hello.incarnation, trust: trust, authorities: hello.authorities,
      isReplacement: hello.isReplacement, version: version, clockLead: clockLead(hello))
    // Whoever came with a token does not know this side's authority yet: the token proves both to each other.
    if case .success(let key)? = tokenKey { return (peer, proof(of: key)) }
    return (peer, [])
  }

  private func clockLead(_ hello: LinkHello) -> Int64? {
    guard let theirs = hello.wallSeconds, let ours = local.wallSeconds() else { return nil }
    return Int64(clamping: theirs).subtractingReportingOverflow(Int64(clamping: ours)).partialValue
  }

  /// The key of the token that the peer proved, or why it is not accepted; nil when it came with none.
  private func judgeToken(_ hello: LinkHello) -> Result<[UInt8], Refusal>? {
    guard let token = hello.token else { return nil }
    let refused: (String) -> Refusal = { words in
      Refusal(
        code: .tokenRefused, node: hello.node, here: "its join token \(hexString(token.idBytes)) is not accepted: \(words)",
        there: words)
    }
    switch local.judgeToken(token.id, hello.node, hello.authorities) {
    case .refused(let words): return .failure(refused(words))
    case .key(let key):
      let expected = proof(of: key, by: channel.role.other, node: hello.node, authorities: hello.authorities)
      guard constantTimeEqual(expected, token.proof) else {
        return .failure(refused("the secret of the join token is not right; copy the whole token"))
      }
      return .success(key)
    }
  }

  /// Version, cluster and name, before anything is computed for the peer.
  private func checkPlace(_ hello: LinkHello) throws(Refusal) -> UInt16 {
    guard let version = local.versions.common(with: hello.versions) else {
      let (own, other) = (local.versions, hello.versions)
      throw Refusal(
        code: .versionMismatch, node: hello.node,
        here: "it speaks link protocol \(other.min) to \(other.max), this node \(own.min) to \(own.max); upgrade the older one",
        there: "this node speaks link protocol \(other.min) to \(other.max), it \(own.min) to \(own.max); upgrade the older one"
      )
    }
    let node = local.node
    guard hello.cluster == node.cluster else {
      throw Refusal(
        code: .wrongCluster, node: hello.node, here: "it belongs to cluster '\(hello.cluster)', this node to '\(node.cluster)'",
        there: "this node belongs to cluster '\(hello.cluster)', it to '\(node.cluster)'; correct \"cluster\" in cluster.json")
    }
    if hello.node == node.name {
      if hello.incarnation == node.incarnation {
        throw Refusal(
          code: .selfConnection, node: hello.node, here: "it is this node itself", there: "the node has called itself")
      }
      throw Refusal(
        code: .nameInUse, node: hello.node, here: "it has this node's name, '\(node.name)'; rename one of them",
        there: "it has the name '\(node.name)' too; rename one of them")
    }
    if let dialled = local.dialled, dialled != hello.node {
      throw Refusal(
        code: .identityMismatch, node: hello.node, here: "\(dialled) was expected there; correct the addresses in cluster.json",
        there: "it expected \(dialled) at this node's address; correct the addresses in its cluster.json")
    }
    return version
  }

  private func believe(_ hello: LinkHello, _ tokenKey: Result<[UInt8], Refusal>?) throws(Refusal) -> (SPIFFEID, LinkTrust) {
    let reason: CertificateError
    switch channel.identity {
    case .success(let identity): return (identity, .bundle)
    case .failure(let error): reason = error
    }
    if let token = hello.token, let tokenKey {
      _ = try tokenKey.get()
      return (try identity(under: hello), .token(token.id))
    }
    // Its Welcome has to prove the token.
    if local.token != nil, local.joinSecret == nil { return (try identity(under: hello), .ownToken) }
    guard let secret = local.joinSecret else {
      throw Refusal(
        code: .untrustedCertificate, node: hello.node,
        here: "\(reason), and this node has no join secret with which it could prove itself",
        there: "\(reason), and it has no join secret to check this node's proof with")
    }
    guard !hello.proof.isEmpty else {
      throw Refusal(
        code: .joinSecretMissing, node: hello.node, here: "\(reason), and it did not prove that it knows the join secret",
        there: "this node has no join secret; copy the join secret file of a node of the cluster")
    }
    let expected = JoinProof.make(
      secret: secret, role: channel.role == .client ? .server : .client, exporter: channel.exporter,
      cluster: hello.cluster, node: hello.node, authorities: hello.authorities)
    guard constantTimeEqual(expected, hello.proof) else {
      throw Refusal(
        code: .joinSecretMismatch, node: hello.node,
        here: "its join secret is not this node's; both need the join secret file of the cluster",
        there: "join secret does not match; copy the join secret file of a node of the cluster")
    }
    return (try identity(under: hello), .joinSecret)
  }

  /// Whom the peer's certificate names, when the authority it offers is trusted.
  private func identity(under hello: LinkHello) throws(Refusal) -> SPIFFEID {
    switch channel.identityUnder(hello.authorities) {
    case .success(let identity): return identity
    case .failure(let error):
      throw Refusal(
        code: .untrustedCertificate, node: hello.node, here: "\(error) under the authority it offers",
        there: "\(error) under the authority this node offers")
    }
  }
}

extension PeerRole {
  fileprivate var other: PeerRole { self == .server ? .client : .server }
}

/// Which of two links to the same peer carries new frames. Both ends decide alike.
enum LinkPreference {
  struct Candidate: Hashable {
    var dialler: NodeName
    var incarnation: UInt64
    var isReplacement: Bool
    var establishedAt: Instant
  }

  enum Choice: Hashable {
    /// The new link takes over; the old one ends when its calls are answered.
    case replace
    /// The peer has restarted: the old link leads nowhere.
    case drop
    /// The new link ends when its calls are answered.
    case keep
  }

  /// Within this time two links are taken to have been dialled by both ends at once.
  static let simultaneous: Duration = .seconds(10)

  static func choose(existing: Candidate, new: Candidate, local: NodeName, peer: NodeName) -> Choice {
    if new.incarnation > existing.incarnation { return .drop }
    if existing.dialler == new.dialler { return .replace }
    if new.isReplacement, !existing.isReplacement { return .replace }
    if existing.isReplacement, !new.isReplacement { return .keep }
    if new.isReplacement, new.establishedAt - existing.establishedAt > simultaneous { return .replace }
    return new.dialler == min(local, peer) ? .replace : .keep
  }
}

/// Failed proofs by source address: a guesser is shut out before TLS costs anything.
struct ProofLimiter {
  private struct Source {
    var windowStart: Instant
    var failures: Int
  }
  private var sources: [IPAddress: Source] = [:]
  var count: Int { sources.count }

  mutating func recordFailure(from address: IPAddress, now: Instant) {
    if var source = sources[address], now - source.windowStart < LinkLimits.proofWindow {
      source.failures += 1
      sources[address] = source
      return
    }
    if sources[address] == nil, sources.count >= LinkLimits.failedProofSourcesMax, let oldest = oldestSource() {
      sources[oldest] = nil
    }
    sources[address] = Source(windowStart: now, failures: 1)
  }

  func isShutOut(_ address: IPAddress, now: Instant) -> Bool {
    guard let source = sources[address], now - source.windowStart < LinkLimits.proofWindow else { return false }
    return source.failures >= LinkLimits.failedProofsMax
  }

  private func oldestSource() -> IPAddress? { sources.min { $0.value.windowStart < $1.value.windowStart }?.key }
}
