import Consensus
import MeshConfig
import Primitives

extension ConfigurationDecision {
  /// Makes the configuration what it was at a revision.
  init(rollingBack wanted: LogIndex, _ control: ControlState) {
    guard let target = control.objects(at: wanted) else {
      let oldest = control.revisions.all.first?.previous ?? control.revision
      let problem = Finding(
        severity: .error, code: Self.conflict,
        reason: "revision \(wanted) is not in the history, which reaches back to \(oldest)", hint: "see: mesh-node history")
      self.init(puts: [], deletes: [], reply: Self.refusal([problem], control))
      return
    }
    let puts = target.filter { control.objects[$0.key]?.bytes != $0.value.bytes }.sorted { $0.key < $1.key }
    let deletes = control.objects.keys.filter { target[$0] == nil }.sorted()
    func change(_ key: Consensus.ObjectKey, _ action: String) -> ConfigReply.Change {
      ConfigReply.Change(kind: key.kind, namespace: key.namespace, name: key.name, action: action, detail: nil)
    }
    let written = puts.map { change($0.key, control.objects[$0.key] == nil ? "created" : "configured") }
    self.init(
      puts: puts.map { ObjectPut(key: $0.key, bytes: $0.value.bytes) }, deletes: deletes,
      reply: ConfigReply(
        isAccepted: true, revision: control.revision.number, changes: written + deletes.map { change($0, "deleted") },
        findings: []))
  }

  /// Objects that were written since the version on which the writer's change is based.
  static func conflicts(_ changeSet: MeshConfig.ChangeSet, _ control: ControlState) -> [Finding] {
    changeSet.objects.compactMap { object in
      guard let seen = changeSet.resourceVersion(of: object.key) else { return nil }
      let stored = control.objects[Consensus.ObjectKey(object.key)]
      let now = stored.map { "\($0.version)" }
      if seen == now { return nil }
      let reason =
        now.map { "the object has changed since: its resourceVersion is \($0), not \(seen)" }
        ?? "the object with resourceVersion \(seen) does not exist any more"
      return changeSet.finding(
        about: object.key, code: conflict, reason: reason, hint: "get it again and repeat the change, or leave the field out")
    }
  }

  /// A change that does not fit the state (no code of Istio's: there the API server says it).
  private static let conflict = Finding.Code.conflict

  private static func refusal(_ findings: [Finding], _ control: ControlState) -> ConfigReply {
    ConfigReply(
      isAccepted: false, revision: control.revision.number, changes: [], findings: findings.map(ConfigReply.Finding.init))
  }

  private init(puts: [ObjectPut], deletes: [Consensus.ObjectKey], reply: ConfigReply) {
    self.puts = puts
    self.deletes = deletes
    self.reply = reply
  }
}
