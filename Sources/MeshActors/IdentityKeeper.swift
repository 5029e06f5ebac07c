import Cluster
import Consensus
import Primitives
import Transport

/// Names the identity of a service account.
public struct AccountKey: Hashable, Comparable, Sendable {
  public let namespace: DNSLabel
  public let serviceAccount: DNSLabel
  public init(namespace: DNSLabel, serviceAccount: DNSLabel) {
    self.namespace = namespace
    self.serviceAccount = serviceAccount
  }
  public static func < (a: AccountKey, b: AccountKey) -> Bool {
    (a.namespace, a.serviceAccount) < (b.namespace, b.serviceAccount)
  }
}

/// Keeps this node's certificates and trust bundle: asks the holder of the certificate-authority role for what is missing,
/// renews at half life, and hands changes on. Existing connections keep what they began with.
public actor IdentityKeeper {
  /// Everything the node proves itself with at one moment.
  public struct Holdings: Sendable {
    public var node: NodeIdentity
    public var workloads: [AccountKey: WorkloadIdentity]
    public var trust: Transport.TrustBundle
  }

  private let cluster: ClusterRuntime
  private let system: SocketActorSystem
  private let authority: NodeAuthority
  private let directory: String
  private let clock: WallClock
  private let changed: @Sendable (Holdings) async -> Void
  private let report: @Sendable (String) -> Void
  private var node: NodeIdentity
  private var workloads: [AccountKey: WorkloadIdentity] = [:]
  private var wanted: [AccountKey: WorkloadKey] = [:]
  private var trust: Transport.TrustBundle
  private var generator: SeededGenerator
  private var jitter: [String: Double] = [:]
  /// Why the last attempt to get a certificate failed, for `status`.
  public private(set) var trouble: String?

  public init(
    cluster: ClusterRuntime, system: SocketActorSystem, authority: NodeAuthority, directory: String, node: NodeIdentity,
    trust: Transport.TrustBundle, clock: WallClock, seed: UInt64, changed: @escaping @Sendable (Holdings) async -> Void,
    report: @escaping @Sendable (String) -> Void
  ) {
    self.cluster = cluster
    self.system = system
    self.authority = authority
    self.directory = directory
    self.node = node
    self.trust = trust
    self.clock = clock
    self.changed = changed
    self.report = report
    generator = SeededGenerator(seed: seed)
  }

  public var holdings: Holdings { Holdings(node: node, workloads: workloads, trust: trust) }

  /// Follows the trust bundle and renews until cancelled.
  public func run() async {
    var selfIssued = node.leaf?.issuer == authority.certificate.subject
    while !Task.isCancelled {
      await followTrust()
      await announceAuthority()
      if selfIssued, cluster.view.control.roles[.certificateAuthority].holder != nil {
        // The certificate of the first start was this node's own word; the holder of the role gives it its own.
        selfIssued = !(await renewNode())
      }
      await renewDue()
      try? await Task.sleep(for: .milliseconds(250))
    }
  }

  /// Wants certificates for these accounts, each shown by one of its workloads, and gets those that are missing.
  ///
  /// Returns without them when the authority cannot be reached before `limit`; they are tried again in the background.
  public func want(_ accounts: [AccountKey: WorkloadKey], within limit: Duration) async {
    wanted = accounts
    for key in workloads.keys where accounts[key] == nil { workloads[key] = nil }
    let deadline = ContinuousClock.now + limit
    for key in accounts.keys.sorted() where workloads[key] == nil { load(key) }
    while ContinuousClock.now < deadline, missing != nil {
      await renewDue()
      if missing != nil { try? await Task.sleep(for: .milliseconds(50)) }
    }
    await changed(holdings)
  }

  private var missing: AccountKey? { wanted.keys.first { workloads[$0]?.leaf == nil } }

  private func load(_ key: AccountKey) {
    do {
      workloads[key] = try WorkloadIdentity(
        directory: directory, trustDomain: authority.trustDomain, namespace: key.namespace.string,
        serviceAccount: key.serviceAccount.string, now: clock.seconds)
    } catch {
      complain("the key of \(key.namespace)/\(key.serviceAccount): \(error)")
    }
  }

  // MARK: Trust

  /// The bundle of the control state, with this node's own authority, which it trusts in any case.
  private func followTrust() async {
    let bundle = cluster.view.control.trust
    guard bundle.version.number != trust.version else { return }
    var authorities = bundle.anchors.compactMap { try? Certificate(der: $0.certificate) }
    if !authorities.contains(authority.certificate) { authorities.append(authority.certificate) }
    guard
      let next = try? Transport.TrustBundle(
        trustDomain: authority.trustDomain, authorities: authorities, version: bundle.version.number)
    else { return complain("the trust bundle of revision \(bundle.version) cannot be used") }
    trust = next
    await cluster.trustChanged(next)
    await changed(holdings)
  }

  /// Puts this node's authority into the bundle, until it is there.
  private func announceAuthority() async {
    let anchors = cluster.view.control.trust.anchors
    guard !anchors.contains(where: { $0.certificate == authority.certificate.der }), cluster.view.raft.leader != nil else {
      return
    }
    _ = try? await cluster.propose(
      .addTrustAnchor(node: cluster.local.name, certificate: authority.certificate.der), within: .seconds(2))
  }

  // MARK: Certificates

  private func renewDue() async {
    let now = clock.seconds
    if isDue(node.leaf, "node", now) { _ = await renewNode() }
    for key in wanted.keys.sorted() where isDue(workloads[key]?.leaf, "\(key.namespace)/\(key.serviceAccount)", now) {
      await renewWorkload(key)
    }
  }

  private func isDue(_ leaf: Certificate?, _ name: String, _ now: Int64) -> Bool {
    guard let leaf else { return true }
    let share = jitter[name] ?? generator.unit()
    jitter[name] = share
    return now >= leaf.renewalTime(jitter: share)
  }

  private func renewNode() async -> Bool {
    do {
      let request = try CertificateSigningRequest.make(key: node.key, identity: node.id).der
      try node.renew(try await issued { authority in try await authority.issueNodeCertificate(request: request) })
      try await cluster.renewed(node)
      trouble = nil
      await changed(holdings)
      return true
    } catch {
      complain("renewing the certificate of node \(cluster.local.name): \(error)")
      return false
    }
  }

  private func renewWorkload(_ key: AccountKey) async {
    if workloads[key] == nil { load(key) }
    guard var identity = workloads[key], let workload = wanted[key] else { return }
    do {
      guard let row = await cluster.signedRow(namespace: workload.namespace, name: workload.name) else { return }
      let request = try CertificateSigningRequest.make(key: identity.key, identity: identity.id).der
      try identity.renew(
        try await issued { authority in try await authority.issueWorkloadCertificate(request: request, row: row) })
      guard wanted[key] != nil else { return }
      workloads[key] = identity
      jitter["\(key.namespace)/\(key.serviceAccount)"] = nil
      trouble = nil
      await changed(holdings)
    } catch {
      complain("getting the certificate of \(identity.id): \(error)")
    }
  }

  /// Asks the holder of the role, and takes only what this node's own trust bundle accepts.
  private func issued(
    _ ask: (CertificateAuthorityActor) async throws -> IssuedCertificate
  ) async throws -> [Certificate] {
    guard let holder = cluster.view.control.roles[.certificateAuthority].holder else {
      throw MeshError(.notHolder, "nobody holds the certificate-authority role")
    }
    let answer = try await RemoteCall.with(timeout: .seconds(3)) {
      try await ask(CertificateAuthorityActor.on(holder, using: system))
    }
    let known = cluster.view.control.roles[.certificateAuthority].epoch
    guard answer.epoch >= known.number else {
      throw MeshError(.staleEpoch, "\(holder) issued under epoch \(answer.epoch), but the role is at \(known)")
    }
    let chain = try answer.chain.map { try Certificate(der: $0) }
    _ = try trust.verify(chain: chain, at: clock.seconds, as: .server)
    return chain
  }

  private func complain(_ text: String) {
    // Said once for each cause: the attempts repeat.
    if trouble != text { report(text) }
    trouble = text
  }
}
