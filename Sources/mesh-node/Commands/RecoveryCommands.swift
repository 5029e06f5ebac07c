import Cluster
import Glibc
import Nodes
import Primitives

/// Backup, restore, and the way out when a majority of the voters is lost.
extension Command {
  static let backup = Command(
    "backup", .configure, operands: "FILE", summary: "write the cluster's state to a file, while it runs",
    discussion: """
      Any node can give it; it is consistent at one revision: the configuration with its history, the addresses of services, the
      trusted authorities, what is kept of tokens, roles. Values of Secrets stay sealed with the join secret: keep that, too,
      and keep it elsewhere. Private keys of nodes and the registry of workloads are not in it. The file is readable by its owner
      only and carries its digest.
      """
  ) { arguments in
    guard arguments.operands.count == 1 else { throw UsageError("say where to: backup FILE") }
    struct Written: Codable {
      var file: String
      var bytes: Int
      var revision: UInt64
      var objects: Int
    }
    let path = arguments.operands[0]
    let client = try AdminClient(arguments)
    let bytes = try client.bytes("/v1/backup")
    do {
      let backup = try Backup(bytes: bytes)
      try replaceFile(path, with: bytes, mode: 0o600)
      let written = Written(file: path, bytes: bytes.count, revision: backup.revision, objects: backup.objectCount)
      try show(written, as: arguments.format) {
        ["wrote \($0.file): revision \($0.revision), \($0.objects) objects, \($0.bytes) bytes"]
      }
    } catch let error as BackupError {
      throw CommandFailure("what node \(client.node) gave is no backup: \(error)")
    } catch let error as FileError { throw CommandFailure("\(error)") }
    return .done
  }

  static let restore = Command(
    "restore", .configure, operands: "FILE", summary: "begin a new cluster with what a backup holds",
    discussion: """
      Run it for the first node, which does not run and whose data directory is empty. The cluster file has to give the cluster a new
      name: so no node of the old one joins by mistake. The configuration, its history and the addresses of services come back.
      Authorities, tokens, gossip keys and roles do not: the nodes make new ones. Then start this node, and the others with empty data
      directories.
      """,
    options: [.value("former-secret", "FILE", "the old cluster's join secret, where the new one has another")]
  ) { arguments in
    guard arguments.operands.count == 1 else { throw UsageError("say from which file: restore FILE") }
    let file = try ClusterFile.load(arguments)
    let node = try file.chosenNode(arguments)
    do {
      let restored = try NodeRecovery.restore(
        arguments.operands[0], file: file, node: node, formerSecret: arguments.value("former-secret"))
      try show(restored, as: arguments.format) { restored in
        var lines = [
          "restored revision \(restored.revision) of cluster \(restored.fromCluster), taken \(restored.takenAt) by \(restored.takenBy)",
          "\(restored.objects) objects, \(restored.revisions) revisions of history, \(restored.serviceAddresses) service addresses",
        ]
        if !restored.unopenedSecrets.isEmpty {
          let list = restored.unopenedSecrets.joined(separator: ", ")
          lines.append("not readable, as the join secret differs (see --former-secret); apply again: \(list)")
        }
        lines.append("not restored: authorities, tokens, gossip keys, roles; make new tokens once the cluster runs")
        lines.append("next: mesh-node start --node \(restored.node), then the others with empty data directories")
        return lines
      }
    } catch let error as StartFailure { throw CommandFailure(error.description) }
    return .done
  }

  static let recoverQuorum = Command(
    "recover-quorum", .configure, summary: "make a survivor the only voter, when a majority of the voters is lost for good",
    discussion: """
      The last resort. Without --yes it says how far this node's log goes and changes nothing: ask every surviving voter, and
      choose the one with the highest last term, then the highest last index. With --yes that node, which must not run, becomes
      the only voter. What the lost voters had decided and this one never got is lost; what it got and nobody had decided comes
      into force. The lost voters must not start again with their old data directories: they would go on without this node. Start
      this node, forget the lost ones (mesh-node forget NODE), and start others, or the same with empty data directories; they
      become voters by themselves.
      """,
    options: [.flag("yes", "do it")]
  ) { arguments in
    guard arguments.operands.isEmpty else { throw UsageError("name the node with --node NAME") }
    let file = try ClusterFile.load(arguments)
    let node = try file.chosenNode(arguments)
    do {
      let result = try NodeRecovery.recoverQuorum(file: file, node: node, confirmed: arguments.flag("yes"))
      try show(result, as: arguments.format) { result in
        let voters = result.formerVoters.joined(separator: ", ")
        var lines = ["\(result.node): the log ends at term \(result.lastTerm), index \(result.lastIndex); voters \(voters)"]
        if result.lacksEntries { lines.append("its disk has lost entries: prefer another survivor") }
        let others = result.formerVoters.filter { $0 != result.node }
        if result.isOnlyVoter {
          lines.append("\(result.node) is the only voter now; next: mesh-node start --node \(result.node)")
          lines += others.map { "then: mesh-node forget \($0); it must not start again with its old data directory" }
        } else {
          lines.append("nothing was changed; to make it the only voter: mesh-node recover-quorum --node \(result.node) --yes")
        }
        return lines
      }
    } catch let error as StartFailure { throw CommandFailure(error.description) }
    return .done
  }
}
