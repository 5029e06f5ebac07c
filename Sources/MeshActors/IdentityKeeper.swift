import Cluster
import Consensus
import Primitives
import Transport

/// Names the identity of a service account.
public struct AccountKey: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let namespace: DNSLabel
  public let serviceAccount: DNSLabel
  public init(namespace: DNSLabel, serviceAccount: DNSLabel) {
    self.namespace = namespace
    self.serviceAccount = serviceAccount
  }
  public static func < (a: AccountKey, b: AccountKey) -> Bool {
    (a.namespace, a.serviceAccount) < (b.namespace, b.serviceAccount)
  }
  public var description: String { "\(namespace)/\(serviceAccount)" }
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
  private var wantedVersion: UInt64 = 0
  /// What a certificate is being asked for now: `run` and `want` never ask twice for one.
  private var underWay: Set<String> = []
  /// The version of the bundle under which each certificate was last found good.
  private var judgedUnder: [String: UInt64] = [:]
  /// Whether the authority has put its name under this node's certificate since the start.
  private var isSelfIssued: Bool
  private var trust: Transport.TrustBundle
  private var generator: SeededGenerator
  private var jitter: [String: Double] = [:]
  private var troubles: [String: Trouble] = [:]

  private struct Trouble {
    var text: String
    let since: ContinuousClock.Instant
    var reported: String?
  }

  /// Failures younger than this are not spoken of: at the start, and while a role moves, they are to be expected.
  private static let patience: Duration = .seconds(3)

  /// Why the last attempts to get certificates failed, for `status`; nil when none did or it has only just begun.
  public var trouble: String? {
    let lasting = troubles.sorted { $0.key < $1.key }.map(\.value).filter { $0.since.duration(to: .now) > Self.patience }
    return lasting.isEmpty ? nil : lasting.map(\.text).joined(separator: "; ")
  }

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
    isSelfIssued = node.leaf?.issuer == authority.certificate.subject
  }

  public var holdings: Holdings { Holdings(node: node, workloads: workloads, trust: trust) }

  /// Follows the trust bundle and renews until cancelled.
  public func run() async {
    while !Task.isCancelled {
      await followTrust()
      await announceAuthority()
      await renewDue()
      try? await Task.sleep(for: isHurried ? .milliseconds(50) : .milliseconds(250))
    }
  }

  /// Wants certificates for these accounts, each shown by one of its workloads, and gets those that are missing.
  ///
  /// Returns without them when the authority cannot be reached before `limit`; they are tried again in the background.
  ///
  /// - Parameter version: the state of the workloads that the accounts are of; an older one than the last changes nothing.
  public func want(_ accounts: [AccountKey: WorkloadKey], version: UInt64, within limit: Duration) async {
    if version >= wantedVersion {
      wantedVersion = version
      wanted = accounts
      for key in workloads.keys where accounts[key] == nil {
        workloads[key] = nil
        troubles["\(key)"] = nil
      }
      for key in accounts.keys.sorted() where workloads[key] == nil { load(key) }
    }
    let deadline = ContinuousClock.now + limit
    while ContinuousClock.now < deadline, missing != nil {
      await renewDue()
      if missing != nil { try? await Task.sleep(for: .milliseconds(50)) }
    }
    await changed(holdings)
  }

  /// Something is lacking that has not been lacking for long.
  private var isHurried: Bool {
    (isSelfIssued || missing != nil) && troubles.values.allSatisfy { $0.since.duration(to: .now) < Self.patience }
  }

  private var missing: AccountKey? { wanted.keys.first { workloads[$0]?.leaf == nil } }

  private func load(_ key: AccountKey) {
    do {
      workloads[key] = try WorkloadIdentity(
        directory: directory, trustDomain: authority.trustDomain, namespace: key.namespace.string,
        serviceAccount: key.serviceAccount.string, now: clock.seconds)
    } catch {
      complain("\(key)", "the key of \(key): \(error)")
    }
  }

  // MARK: Trust

  /// The bundle of the control state, with this node's own authority, which it trusts in any case.
  private func followTrust() async {
    let bundle = cluster.view.control.trust
    // What an earlier life trusted stays until the log has caught up with it.
    guard bundle.version.number > trust.version else { return }
    var authorities = bundle.anchors.compactMap { try? Certificate(der: $0.certificate) }.filter(\.isAuthority)
    if !authorities.contains(authority.certificate) { authorities.append(authority.certificate) }
    guard
      let next = try? Transport.TrustBundle(
        trustDomain: authority.trustDomain, authorities: authorities, version: bundle.version.number)
    else { return complain("trust", "the trust bundle of revision \(bundle.version) cannot be used") }
    troubles["trust"] = nil
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
    // The certificate of the first start was this node's own word; the holder of the role gives it its own.
    if isSelfIssued || isDue(node.chain, Self.nodeName, now) { await once(Self.nodeName) { await self.renewNode() } }
    for key in wanted.keys.sorted() where isDue(workloads[key]?.chain ?? [], "\(key)", now) {
      await once("\(key)") { await self.renewWorkload(key) }
    }
  }

  private static let nodeName = "node"

  private func once(_ name: String, _ renew: () async -> Void) async {
    guard underWay.insert(name).inserted else { return }
    await renew()
    underWay.remove(name)
  }

  /// Whether a certificate is old enough, or of an authority that the cluster trusts no more since it has forgotten its node.
  private func isDue(_ chain: [Certificate], _ name: String, _ now: Int64) -> Bool {
    guard let leaf = chain.first else { return true }
    if judgedUnder[name] != trust.version {
      guard (try? trust.verify(chain: chain, at: now, as: .server)) != nil else { return true }
      judgedUnder[name] = trust.version
    }
    let share = jitter[name] ?? generator.unit()
    jitter[name] = share
    return now >= leaf.renewalTime(jitter: share)
  }

  private func renewNode() async {
    do {
      let request = try CertificateSigningRequest.make(key: node.key, identity: node.id).der
      try node.renew(try await issued { authority in try await authority.issueNodeCertificate(request: request) })
      isSelfIssued = false
      settled(Self.nodeName)
      try await cluster.renewed(node)
      await changed(holdings)
    } catch {
      complain(Self.nodeName, "renewing the certificate of node \(cluster.local.name): \(error)")
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
      // It may have been withdrawn meanwhile.
      guard wanted[key] != nil else { return }
      workloads[key] = identity
      settled("\(key)")
      await changed(holdings)
    } catch {
      complain("\(key)", "getting the certificate of \(identity.id): \(error)")
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

  private func settled(_ name: String) {
    jitter[name] = nil
    troubles[name] = nil
  }

  /// The attempts repeat: each cause is said once, and only when it lasts.
  private func complain(_ name: String, _ text: String) {
    var trouble = troubles[name] ?? Trouble(text: text, since: .now)
    trouble.text = text
    if trouble.reported != text, trouble.since.duration(to: .now) > Self.patience {
      trouble.reported = text
      report(text)
    }
    troubles[name] = trouble
  }
}
