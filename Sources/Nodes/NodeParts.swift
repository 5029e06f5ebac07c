import Cluster
import Consensus
import FoundationEssentials
import Glibc
import Membership
import MeshActors
import MeshConfig
import Primitives
import Proxy
import Transport

/// What a node is made of before anything runs: disk, identity, loop, links, cluster, data plane.
struct NodeParts {
  let directory: String
  let storage: NodeStorage
  /// Nil on a node that joined with a token.
  let joinSecret: JoinSecret?
  /// What opens the Secrets on a node that joined with a token, once a member has given it.
  let secretsKey: [UInt8]?
  let token: JoinTokenText?
  let authority: NodeAuthority
  let identity: NodeIdentity
  let trust: Transport.TrustBundle
  let incarnation: UInt64
  let remembered: ControlState?
  let rememberedRows: SavedRows?
  let clock: WallClock

  /// Opens everything that is on the disk. What is wrong is said with the place and the remedy.
  init(file: ClusterFile, node: ClusterFile.Node, token: JoinTokenText? = nil, clock: WallClock) throws {
    self.token = token
    self.clock = clock
    directory = file.dataDirectory(of: node)
    let pki = "\(directory)/pki"
    do {
      joinSecret = file.hasJoined && !fileExists(file.joinSecretPath) ? nil : try JoinSecret(path: file.joinSecretPath)
      try createDirectories(pki)
      storage = try NodeStorage(directory: directory, cluster: file.cluster.string, node: node.name)
      // Says whose directory this is, for people and for the demo's clean-up.
      try replaceFile(
        "\(directory)/node.json", with: Array("{\"cluster\": \"\(file.cluster)\", \"node\": \"\(node.name)\"}\n".utf8),
        mode: 0o600)
      secretsKey = SecretsKeyFile(in: pki).key
      authority = try NodeAuthority(
        directory: pki, trustDomain: file.trustDomain, node: node.name, now: clock.seconds,
        lifetime: file.certificates.authority)
      identity = try NodeIdentity(
        directory: pki, authority: authority, node: node.name, now: clock.seconds, lifetime: file.certificates.node)
      let before = StoredFact.number(try storage.value(StoredFact.incarnation)) ?? 0
      incarnation = max(clock.milliseconds(), before + 1)
      storage.set(StoredFact.incarnation, StoredFact.bytes(incarnation))
      remembered = try storage.value(StoredFact.controlState).flatMap { try? ControlState(restoring: $0) }
      rememberedRows = try storage.value(StoredFact.registryRows).flatMap(SavedRows.init(bytes:))
      trust = try Self.initialTrust(authority, remembered)
    } catch let error as CertificateError {
      throw StartFailure("the keys and certificates in \(pki): \(error)")
    } catch {
      throw StartFailure("\(error)")
    }
  }

  /// What was trusted in the earlier life, and this node's own authority.
  private static func initialTrust(_ authority: NodeAuthority, _ remembered: ControlState?) throws -> Transport.TrustBundle {
    var authorities = remembered?.trust.anchors.compactMap { try? Certificate(der: $0.certificate) }.filter(\.isAuthority) ?? []
    if !authorities.contains(authority.certificate) { authorities.append(authority.certificate) }
    return try Transport.TrustBundle(
      trustDomain: authority.trustDomain, authorities: authorities, version: remembered?.trust.version.number ?? 0)
  }

  /// A node that knows no authority yet verifies this node's certificate with what is offered here: this node's own
  /// authority, and the one that issued the certificate when that was another node's.
  func linkCredentials(_ identity: NodeIdentity, _ trust: Transport.TrustBundle) throws -> LinkCredentials {
    let own = authority.certificate
    let issuer = trust.authorities.first { $0 != own && $0.subject == identity.leaf?.issuer }
    return LinkCredentials(
      identity: try TLSIdentity(chain: identity.chain, key: identity.key), authorities: [own] + (issuer.map { [$0] } ?? []),
      bundle: trust, joinSecret: joinSecret?.bytes, token: token?.linkToken)
  }
}

extension WallClock {
  /// The host's.
  static let system = WallClock { UInt64(max(0, Date().timeIntervalSince1970) * 1000) }
}

/// The key of the cluster's Secrets on a node that joined with a token, beside its private keys and as protected as they are.
struct SecretsKeyFile {
  private let path: String
  init(in pki: String) { path = "\(pki)/secrets-key" }

  /// nil when no member has given it yet.
  var key: [UInt8]? {
    guard let bytes = try? readFile(path, bytesMax: SecretSeal.keyBytes), bytes.count == SecretSeal.keyBytes else { return nil }
    return bytes
  }

  func replace(with key: [UInt8]) throws { try replaceFile(path, with: key, mode: 0o600) }
}

extension ClusterFile {
  /// This node's part in the cluster, as the file says it.
  func clusterLocal(_ node: Node, incarnation: UInt64) throws -> ClusterLocal {
    // A node that joins has no say in how the cluster began.
    let voters = hasJoined ? [] : initialVoters
    var local = ClusterLocal(
      name: node.name, cluster: cluster, trustDomain: trustDomain, address: NodeAddress(host: node.address, port: ports.link),
      locality: node.locality, incarnation: incarnation, meshPort: ports.mesh,
      seeds: nodes.filter { $0.name != node.name }.map {
        Seed(name: $0.name, address: NodeAddress(host: $0.address, port: ports.link))
      },
      configuration: ClusterConfiguration(voters: voters, learners: []))
    local.votersWanted = self.voters
    return local
  }
}
