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
    let proof = local.joinSecret.map {
      JoinProof.make(
        secret: $0, role: channel.role, exporter: channel.exporter, cluster: node.cluster, node: node.name,
        authorities: local.authorities)
    }
    let hello = LinkHello(
      cluster: node.cluster, node: node.name, incarnation: node.incarnation, isReplacement: local.isReplacement,
      authorities: local.authorities, proof: proof ?? [])
    return Frame(kind: .hello, lane: .urgent, body: hello.body)
  }

  /// Takes the next frame of the peer. `admit` is asked last, about a peer that is otherwise accepted.
  mutating func receive(_ frame: Frame, admit: (Peer) -> Refusal?) -> [Effect] {
    guard !isOver else { return [] }
    switch frame.kind {
    case .hello where peer == nil:
      do throws(Refusal) {
        let accepted = try judge(frame.body)
        if let refusal = admit(accepted) { throw refusal }
        peer = accepted
        return [.send(Frame(kind: .welcome, lane: .urgent))] + completion()
      } catch {
        isOver = true
        let notice = LinkNotice(code: error.code.rawValue, text: error.there)
        return [.send(Frame(kind: .reject, lane: .urgent, body: notice.body)), .refuse(error)]
      }
    case .welcome where !isWelcome:
      isWelcome = true
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

  private mutating func completion() -> [Effect] {
    guard let peer, isWelcome else { return [] }
    isOver = true
    return [.established(peer)]
  }

  private func judge(_ body: [UInt8]) throws(Refusal) -> Peer {
    let hello: LinkHello
    do {
      hello = try LinkHello(parsing: body)
    } catch {
      throw Refusal(code: .malformedHello, here: "it is not a mesh-node of this kind", there: "the greeting cannot be read")
    }
    let version = try checkPlace(hello)
    let (identity, trust) = try believe(hello)
    guard identity.node == hello.node else {
      throw Refusal(
        code: .identityMismatch, node: hello.node, here: "its certificate names \(identity), not this node",
        there: "the certificate names \(identity), not node \(hello.node)")
    }
    return Peer(
      node: hello.node, incarnation: hello.incarnation, trust: trust, authorities: hello.authorities,
      isReplacement: hello.isReplacement, version: version)
  }

  /// Version, cluster and name, before anything is computed for the peer.
  private func checkPlace(_ hello: LinkHello) throws(Refusal) -> UInt16 {
    guard let version = LinkVersions.own.common(with: hello.versions) else {
      let (own, other) = (LinkVersions.own, hello.versions)
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

  private func believe(_ hello: LinkHello) throws(Refusal) -> (SPIFFEID, LinkTrust) {
    let reason: CertificateError
    switch channel.identity {
    case .success(let identity): return (identity, .bundle)
    case .failure(let error): reason = error
    }
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
    switch channel.identityUnder(hello.authorities) {
    case .success(let identity): return (identity, .joinSecret)
    case .failure(let error):
      throw Refusal(
        code: .untrustedCertificate, node: hello.node, here: "\(error) under the authority it offers",
        there: "\(error) under the authority this node offers")
    }
  }
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
