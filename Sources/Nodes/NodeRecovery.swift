import Cluster
import Consensus
import Glibc
import MeshConfig
import Primitives

/// Restores clusters from backups, and takes up clusters that have lost their quorum: on a node that does not run.
public enum NodeRecovery {
  /// What a backup holds, or what came back from it.
  public struct Restored: Codable, Sendable {
    public var cluster: String
    public var fromCluster: String
    public var node: String
    public var takenAt: String
    public var takenBy: String
    public var revision: UInt64
    public var objects: Int
    public var revisions: Int
    public var serviceAddresses: Int
    /// Secrets whose values could not be opened with the join secret, and stay sealed for nobody.
    public var unopenedSecrets: [String]
  }

  /// Begins a new cluster with what a backup holds, in the empty data directory of its first node.
  ///
  /// - Parameter formerSecret: the file of the join secret of the cluster that was backed up, where the new one has another.
  public static func restore(
    _ path: String, file: ClusterFile, node: ClusterFile.Node, formerSecret: String?
  ) throws(StartFailure) -> Restored {
    let directory = file.dataDirectory(of: node)
    do {
      let backup = try Backup(bytes: try readFile(path, bytesMax: Backup.fileBytesMax))
      guard backup.cluster != file.cluster.string, let former = try? DNSLabel(backup.cluster) else {
        throw StartFailure(
          """
          the restored cluster needs a name of its own, so that no node of the old one joins it by mistake: \
          change "cluster" in \(file.path), for example to "\(backup.cluster)-2", and give that file to every host
          """)
      }
      guard isEmpty(directory) else {
        throw StartFailure("\(directory) is not empty: restore writes a new node only; move the directory away first")
      }
      let secret = try JoinSecret(path: file.joinSecretPath)
      let opening = SecretSeal(
        joinSecret: try formerSecret.map { path throws(FileError) in try JoinSecret(path: path) }?.bytes ?? secret.bytes,
        cluster: former)
      let sealing = SecretSeal(joinSecret: secret.bytes, cluster: file.cluster)
      var unopened: Set<String> = []
      let state = backup.state.restored(on: node.name) { key, bytes in
        guard key.kind == ObjectKind.secret.rawValue else { return bytes }
        guard let object = try? MeshObject.decode(canonical: bytes, opening: opening.open),
          case .secret(let values) = object.spec, !values.isSealed
        else {
          unopened.insert("\(key.namespace)/\(key.name)")
          return bytes
        }
        return object.stored(sealing: sealing.seal)
      }
      try createDirectories(directory)
      try OfflineRecovery.begin(state, directory: directory, cluster: file.cluster.string, node: node.name)
      return Restored(
        cluster: file.cluster.string, fromCluster: backup.cluster, node: node.name.string,
        takenAt: AdminRoutes.time(milliseconds: backup.milliseconds), takenBy: backup.node, revision: state.revision.number,
        objects: state.objects.count, revisions: state.revisions.all.count, serviceAddresses: state.addresses.count,
        unopenedSecrets: unopened.sorted())
    } catch let error as StartFailure {
      throw error
    } catch {
      throw StartFailure("\(path): \(error)")
    }
  }

  /// Nothing is there, or nothing but what people put there.
  private static func isEmpty(_ directory: String) -> Bool {
    !["raft.db", "raft.initialised", "local.db", "pki", "node.json"].contains { fileExists("\(directory)/\($0)") }
  }

  /// How far a node's log goes, and what was done.
  public struct Recovered: Codable, Sendable {
    public var node: String
    public var lastIndex: UInt64
    public var lastTerm: UInt64
    public var formerVoters: [String]
    public var lacksEntries: Bool
    /// False when nothing was written yet.
    public var isOnlyVoter: Bool
  }

  /// Makes a node the only voter of its cluster, or, without `confirmed`, says how far its log goes.
  public static func recoverQuorum(
    file: ClusterFile, node: ClusterFile.Node, confirmed: Bool
  ) throws(StartFailure) -> Recovered {
    let directory = file.dataDirectory(of: node)
    guard fileExists("\(directory)/raft.initialised") else {
      throw StartFailure("\(directory) is not the data directory of a node; run this on the host of a voter that survived")
    }
    do {
      let cluster = file.cluster.string
      let end = try OfflineRecovery.logEnd(directory: directory, cluster: cluster, node: node.name)
      guard end.last.index > .zero, !end.voters.isEmpty else {
        throw StartFailure(
          """
          \(node.name) holds no part of the log: it was no voter. Take a backup of it while it runs (mesh-node backup FILE), \
          and restore that
          """)
      }
      if confirmed { _ = try OfflineRecovery.becomeOnlyVoter(directory: directory, cluster: cluster, node: node.name) }
      return Recovered(
        node: node.name.string, lastIndex: end.last.index.number, lastTerm: end.last.term.number,
        formerVoters: end.voters.map(\.string), lacksEntries: end.lacksEntries, isOnlyVoter: confirmed)
    } catch let error as StartFailure {
      throw error
    } catch {
      throw StartFailure("\(error)")
    }
  }
}
