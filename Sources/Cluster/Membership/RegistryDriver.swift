import Membership
import Primitives
import Transport

/// Runs the registry core over links: signs this node's rows, verifies everyone else's. Confined to the control loop.
final class RegistryDriver: TimerHandler {
  struct Outputs {
    var send: (_ message: [UInt8], _ node: NodeName) -> Void
    var changed: () -> Void
    /// The membership shows this to peers, so that they notice differences.
    var digestChanged: (UInt64) -> Void
    var rejected: (RowRejection, NodeName) -> Void
  }

  private(set) var registry: Registry
  private let loop: EventLoop
  private let outputs: Outputs
  private let sign: Registry.Sign
  private let verifier: RowVerifier
  private var timer: TimerToken?
  private var dueAt: Instant = .distantFuture
  private var shownDigest: UInt64 = 0

  init(loop: EventLoop, registry: Registry, sign: @escaping Registry.Sign, verifier: RowVerifier, outputs: Outputs) {
    self.loop = loop
    self.registry = registry
    self.sign = sign
    self.verifier = verifier
    self.outputs = outputs
  }

  func start() { arm() }

  func stop() {
    if let timer { loop.cancel(timer) }
    timer = nil
  }

  func receive(_ bytes: [UInt8], from peer: NodeName) {
    guard let message = try? RegistryMessage(decoding: bytes) else { return }
    act { registry, now, effects in registry.handle(message, from: peer, verify: verifier.verify, at: now, into: &effects) }
  }

  func peersChanged(_ live: [NodeName]) {
    act { registry, now, _ in registry.peersChanged(live, at: now) }
  }

  /// Gossip showed that a peer holds other rows.
  func heard(digest: UInt64, from peer: NodeName) {
    act { registry, now, effects in registry.heard(digest: digest, from: peer, at: now, into: &effects) }
  }

  func publish(node: NodeRow) throws(PublishError) {
    try attempt { (registry, now, effects) throws(PublishError) in
      try registry.publish(node: node, sign: sign, at: now, into: &effects)
    }
  }

  func publish(workload: WorkloadRow) throws(PublishError) {
    try attempt { (registry, now, effects) throws(PublishError) in
      try registry.publish(workload: workload, sign: sign, at: now, into: &effects)
    }
  }

  func withdraw(namespace: DNSLabel, name: DNSLabel, deletedAtMilliseconds: UInt64) throws(PublishError) {
    try attempt { (registry, now, effects) throws(PublishError) in
      _ = try registry.withdraw(
        namespace: namespace, name: name, deletedAtMilliseconds: deletedAtMilliseconds, sign: sign, at: now, into: &effects)
    }
  }

  func raiseIncarnation(to incarnation: UInt64) {
    try? attempt { (registry, now, effects) throws(PublishError) in
      try registry.raiseIncarnation(to: incarnation, sign: sign, at: now, into: &effects)
    }
  }

  /// The cluster has removed a node: nothing is kept of it.
  func forget(_ node: NodeName) {
    act { registry, _, effects in registry.forget(node, into: &effects) }
  }

  func readmit(_ nodes: Set<NodeName>) { registry.readmit(nodes) }

  private func act(_ body: (inout Registry, Instant, inout [Registry.Effect]) -> Void) {
    var effects: [Registry.Effect] = []
    body(&registry, EventLoop.monotonicNow(), &effects)
    perform(effects)
  }

  private func attempt(
    _ body: (inout Registry, Instant, inout [Registry.Effect]) throws(PublishError) -> Void
  ) throws(PublishError) {
    var effects: [Registry.Effect] = []
    defer { perform(effects) }
    try body(&registry, EventLoop.monotonicNow(), &effects)
  }

  private func perform(_ effects: [Registry.Effect]) {
    var isChanged = false
    for effect in effects {
      switch effect {
      case .send(let message, let node): outputs.send(message.encoded(), node)
      case .changed: isChanged = true
      case .rejected(.ownRowAhead(let version), _): raiseIncarnation(to: version.incarnation &+ 1)
      case .rejected(let rejection, let node): outputs.rejected(rejection, node)
      case .compactionDue:
        try? attempt { (registry, now, effects) throws(PublishError) in
          try registry.compact(sign: sign, at: now, into: &effects)
        }
      }
    }
    if registry.digestHash != shownDigest {
      shownDigest = registry.digestHash
      outputs.digestChanged(shownDigest)
    }
    if isChanged { outputs.changed() }
    arm()
  }

  private func arm() {
    if let timer { loop.cancel(timer) }
    dueAt = registry.nextDeadline
    timer = loop.schedule(at: dueAt, self)
  }

  func timerFired(_ token: TimerToken) {
    timer = nil
    act { registry, now, effects in
      if now > dueAt + ClusterLimits.stall { registry.markStale(at: now) }
      registry.tick(at: now, into: &effects)
    }
  }
}

/// Checks that a row was signed by its owner's node key. Remembers chains that were found good. Confined to the control loop.
final class RowVerifier {
  private var trust: Transport.TrustBundle
  private let wallSeconds: () -> Int64
  /// Public keys of chains that verified for an owner, by the DER bytes of the leaf.
  private var known: [[UInt8]: (owner: NodeName, key: PublicKey, until: Int64)] = [:]
  /// Twice the members a cluster may have: the present and the next certificate of each.
  private static let knownMax = 8_192

  init(trust: Transport.TrustBundle, wallSeconds: @escaping () -> Int64) {
    self.trust = trust
    self.wallSeconds = wallSeconds
  }

  /// A changed bundle makes every chain prove itself again.
  func update(_ trust: Transport.TrustBundle) {
    self.trust = trust
    known = [:]
  }

  func verify(_ signed: SignedRow, _ owner: NodeName, _ certificates: [[UInt8]]) -> Bool {
    guard let key = key(of: owner, certificates) else { return false }
    return key.isValid(signed.signature, for: signed.payload)
  }

  private func key(of owner: NodeName, _ certificates: [[UInt8]]) -> PublicKey? {
    guard let leaf = certificates.first else { return nil }
    let now = wallSeconds()
    if let found = known[leaf], found.owner == owner, now < found.until { return found.key }
    var chain: [Certificate] = []
    for der in certificates {
      guard let certificate = try? Certificate(der: der) else { return nil }
      chain.append(certificate)
    }
    guard let identity = try? trust.verify(chain: chain, at: now, as: .server), identity.node == owner,
      let first = chain.first, let key = try? first.publicKey
    else { return nil }
    if known.count >= Self.knownMax { known = [:] }
    known[leaf] = (owner, key, first.notAfter)
    return key
  }
}
