import Cluster
import Consensus
import MeshConfig
import Primitives

/// What a change would do to a configuration state, decided as a value before anything is written.
struct ConfigurationDecision {
  let puts: [ObjectPut]
  let deletes: [Consensus.ObjectKey]
  let reply: ConfigReply

  var changesAnything: Bool { !puts.isEmpty || !deletes.isEmpty }

  /// - Parameter settings: what else routes may name: services that are known by registration only.
  init(
    _ change: ConfigChange, _ control: ControlState, _ current: [MeshConfig.StoredObject], _ settings: ReferenceRules.Settings,
    _ secrets: SecretSeal
  ) {
    let sources = change.sources.map { ConfigSource(name: $0.name, bytes: Array($0.text.utf8)) }
    let changeSet = MeshConfig.ChangeSet(sources, defaultNamespace: change.namespace, isFixed: change.isNamespaceFixed == true)
    let plan: Plan
    var problems: [Finding] = []
    if change.deletesSources || !change.deletes.isEmpty {
      let named = Self.keys(change.deletes, problems: &problems)
      let written = change.deletesSources ? changeSet.objects.map(\.key) : []
      var keys = named + written
      if change.ignoresMissing == true {
        let known = Set(current.map(\.key))
        keys.removeAll { !known.contains($0) }
      }
      plan = Plan(deleting: keys, from: current, settings: settings)
      // What does nothing may well be deleted.
      problems += change.deletesSources ? changeSet.findings.filter { $0.severity == .error } : []
    } else {
      plan = Plan(applying: changeSet, to: current, settings: settings)
      if changeSet.objects.isEmpty, changeSet.skipped.isEmpty, !changeSet.hasErrors {
        problems.append(
          Finding(severity: .error, code: "IST0106", source: change.sources.first?.name ?? "", reason: "there is nothing in it")
        )
      }
    }
    if !change.deletesSources { problems += Self.conflicts(changeSet, control) }
    let findings = problems + plan.findings
    let isAccepted = !findings.contains { $0.severity >= (change.isStrict == true ? .warning : .error) }
    puts =
      isAccepted
      ? plan.changes.filter { $0.action == .created || $0.action == .updated }
        .map { ObjectPut(key: Consensus.ObjectKey($0.key), bytes: $0.object.stored(sealing: secrets.seal)) } : []
    deletes = isAccepted ? plan.changes.filter { $0.action == .deleted }.map { Consensus.ObjectKey($0.key) } : []
    reply = ConfigReply(
      isAccepted: isAccepted, revision: control.revision.number,
      changes: plan.changes.map { ConfigReply.Change($0, showsDifference: change.dryRun) }
        + changeSet.skipped.map(ConfigReply.Change.init),
      findings: findings.map(ConfigReply.Finding.init))
  }

  /// The answer once the change stands at a revision.
  func reply(at revision: UInt64) -> ConfigReply {
    var answer = reply
    answer.revision = revision
    return answer
  }

  private static func keys(
    _ names: [ConfigChange.ObjectName], problems: inout [Finding]
  ) -> [MeshConfig.ObjectKey] {
    names.compactMap { name in
      guard let kind = ObjectKind(named: name.kind) else {
        problems.append(
          Finding(
            severity: .error, code: "IST0106", object: name.kind, reason: "there is no kind '\(name.kind)'",
            hint: ObjectKind.hint(forUnknown: name.kind)))
        return nil
      }
      return MeshConfig.ObjectKey(kind: kind, namespace: kind.isNamespaced ? name.namespace : "", name: name.name)
    }
  }
}

extension Consensus.ObjectKey {
  init(_ key: MeshConfig.ObjectKey) {
    self.init(group: key.kind.group, kind: key.kind.rawValue, namespace: key.namespace, name: key.name)
  }
}

extension ConfigReply.Change {
  init(_ change: Plan.Change, showsDifference: Bool) {
    let action = change.action == .updated ? "configured" : change.action.rawValue
    let detail = showsDifference && !change.difference.isEmpty ? change.difference.joined(separator: "\n") : nil
    self.init(
      kind: change.key.kind.rawValue, namespace: change.key.namespace, name: change.key.name, action: action, detail: detail)
  }

  init(_ skipped: SkippedDocument) {
    let reason = skipped.isMesh ? "this version does nothing with it" : "it does not configure the mesh"
    self.init(
      kind: skipped.kind, namespace: skipped.namespace, name: skipped.name, action: "skipped",
      detail: "\(reason) (\(skipped.source):\(skipped.position.line))")
  }
}

extension ConfigReply.Finding {
  public init(_ finding: Finding) {
    self.init(
      severity: finding.severity.rawValue, code: finding.code, source: finding.source, line: finding.line,
      column: finding.column,
      object: finding.object, path: finding.path, reason: finding.reason, hint: finding.hint)
  }
}
