import Cluster
import Consensus
import Distributed
import Membership
import Primitives
import Transport

/// Issues certificates with this node's own authority key, while this node holds the certificate-authority role.
///
/// The identity is what the caller is authenticated as, or what its signed registry row shows that it hosts; the request's
/// own wishes are not followed.
public distributed actor CertificateAuthorityActor: MeshActor {
  public static let name = "certificate-authority"
  public static let targets = ActorTargets.certificateAuthority

  /// Any node may ask; what it gets is decided by its identity.
  public static func authorize(_ target: MeshTarget, caller: NodeName) -> Bool { true }

  private let cluster: ClusterRuntime
  private let authority: NodeAuthority
  private let lifetimes: IssuedLifetimes
  private let wallSeconds: @Sendable () -> Int64

  public init(
    cluster: ClusterRuntime, authority: NodeAuthority, lifetimes: IssuedLifetimes, wallSeconds: @escaping @Sendable () -> Int64,
    actorSystem: SocketActorSystem
  ) {
    self.cluster = cluster
    self.authority = authority
    self.lifetimes = lifetimes
    self.wallSeconds = wallSeconds
    self.actorSystem = actorSystem
  }

  /// Certifies the calling node's own key.
  public distributed func issueNodeCertificate(request: [UInt8]) async throws -> IssuedCertificate {
    let node = RemoteCall.caller ?? cluster.local.name
    let identity = try SPIFFEID.node(trustDomain: authority.trustDomain, name: node)
    return try await issue(request, for: identity, lifetime: lifetimes.node)
  }

  /// Certifies a workload's key. `row` is the registry row, signed by the calling node, that shows the workload: it has to
  /// be the present one, or newer than what has come here, so that an account ends with its last workload.
  public distributed func issueWorkloadCertificate(request: [UInt8], row: [UInt8]) async throws -> IssuedCertificate {
    let node = RemoteCall.caller ?? cluster.local.name
    guard let workload = await cluster.verifiedWorkload(row, of: node) else {
      throw MeshError(.unauthorized, "the registry row is not one that \(node) signed for a workload it has now")
    }
    guard workload.health != .leaving else {
      throw MeshError(.unauthorized, "the workload \(workload.namespace)/\(workload.name) of \(node) is leaving")
    }
    let identity = try SPIFFEID.workload(
      trustDomain: authority.trustDomain, namespace: workload.namespace.string, serviceAccount: workload.serviceAccount.string)
    return try await issue(request, for: identity, lifetime: lifetimes.workload)
  }

  private func issue(_ request: [UInt8], for identity: SPIFFEID, lifetime: Duration) async throws -> IssuedCertificate {
    guard let epoch = await cluster.epoch(of: .certificateAuthority) else {
      let holder = cluster.view.control.roles[.certificateAuthority].holder
      throw MeshError(
        .notHolder, holder.map { "\($0) holds the certificate-authority role" } ?? "nobody holds the certificate-authority role"
      )
    }
    do throws(CertificateError) {
      let chain = try authority.issue(
        for: try CertificateSigningRequest(der: request), identity: identity, now: wallSeconds(), lifetime: lifetime)
      return IssuedCertificate(chain: chain.map(\.der), epoch: epoch.number)
    } catch {
      throw MeshError(.invalid, "the certificate request of \(identity) was refused: \(error)")
    }
  }
}

/// How long the certificates of this cluster live.
public struct IssuedLifetimes: Sendable {
  public var node: Duration
  public var workload: Duration
  public init(node: Duration, workload: Duration) {
    self.node = node
    self.workload = workload
  }
}

/// A certificate as it was issued: leaf first, without the trusted authority; and the epoch of the issuer's role.
public struct IssuedCertificate: Codable, Sendable {
  public var chain: [[UInt8]]
  public var epoch: UInt64
}
