/// What applying a change set would do to the configuration in force, and every reason not to.
public struct Plan: Sendable {
  public enum Action: String, Sendable, Hashable, Codable {
    case created, updated, unchanged, deleted
  }
  public struct Change: Sendable, Hashable {
    public let action: Action
    public let key: ObjectKey
    /// The object as it will be; for deletions as it was.
    public let object: MeshObject
    /// Lines of the object's YAML, each led by `+`, `-` or a blank; empty unless created, updated or deleted.
    public let difference: [String]
  }

  /// In the order of keys.
  public let changes: [Change]
  /// Findings of the change set and of the state it leads to.
  public let findings: [Finding]
  public var hasErrors: Bool { findings.hasErrors }
  /// Whether there is anything to write.
  public var isEmpty: Bool { changes.allSatisfy { $0.action == .unchanged } }

  /// Plans to apply `changeSet` over `current`.
  public init(applying changeSet: ChangeSet, to current: [StoredObject], settings: ReferenceRules.Settings) {
    let known = Dictionary(current.map { ($0.key, $0.object) }) { first, _ in first }
    var problems: [Finding] = []
    changes = changeSet.objects.sorted { $0.key < $1.key }.map { object in
      if object.isSealed {
        // An export that is applied again: the values in force stay.
        if let old = known[object.key] { return Change(action: .unchanged, key: object.key, object: old, difference: []) }
        problems.append(
          Finding(
            severity: .error, code: Finding.Code.schema, source: changeSet.places[object.key]?.source ?? "",
            position: changeSet.places[object.key]?.document.position, object: object.key.description, path: "data",
            reason: "the values were left out when this was printed", hint: "write them, in base64"))
      }
      guard let old = known[object.key] else {
        return Change(action: .created, key: object.key, object: object, difference: LineDifference.lines("", object.yaml))
      }
      if old == object { return Change(action: .unchanged, key: object.key, object: object, difference: []) }
      let lines = LineDifference.lines(old.yaml, object.yaml)
      return Change(action: .updated, key: object.key, object: object, difference: lines)
    }
    let replaced = Set(changeSet.objects.map(\.key))
    let state = current.map(\.object).filter { !replaced.contains($0.key) } + changeSet.objects
    findings = changeSet.findings + problems + ReferenceRules.check(changeSet, in: state, settings: settings)
  }

  /// Plans to delete `keys`; a key that does not exist is an error, and so is one that others still need.
  public init(deleting keys: [ObjectKey], from current: [StoredObject], settings: ReferenceRules.Settings) {
    let known = Dictionary(current.map { ($0.key, $0.object) }) { first, _ in first }
    var findings: [Finding] = []
    changes = Set(keys).sorted().compactMap { key in
      guard let object = known[key] else {
        findings.append(
          Finding(
            severity: .error, code: Finding.Code.referenceNotFound, object: key.description, reason: "not found",
            hint: "`mesh-node get \(key.kind.rawValue.lowercased()) -A` lists what exists"))
        return nil
      }
      return Change(action: .deleted, key: key, object: object, difference: LineDifference.lines(object.yaml, ""))
    }
    let gone = Set(keys)
    let rest = current.map(\.object).filter { !gone.contains($0.key) }
    let before = Set(ReferenceRules.checkState(current.map(\.object), settings: settings))
    self.findings = findings + ReferenceRules.checkState(rest, settings: settings).filter { !before.contains($0) }
  }
}

/// A line diff by longest common subsequence, for texts of some hundred lines.
enum LineDifference {
  /// Above this product of line counts the texts are shown whole: removed, then added.
  private static let cellsMax = 4_000_000

  static func lines(_ old: String, _ new: String) -> [String] {
    let a = old.split(separator: "\n").map(String.init)
    let b = new.split(separator: "\n").map(String.init)
    guard !a.isEmpty, !b.isEmpty, a.count * b.count <= cellsMax else { return a.map { "-\($0)" } + b.map { "+\($0)" } }
    let width = b.count + 1
    var lengths = [Int32](repeating: 0, count: (a.count + 1) * width)
    for i in a.indices.reversed() {
      for j in b.indices.reversed() {
        let skip = max(lengths[(i + 1) * width + j], lengths[i * width + j + 1])
        lengths[i * width + j] = a[i] == b[j] ? lengths[(i + 1) * width + j + 1] + 1 : skip
      }
    }
    var result: [String] = []
    var (i, j) = (0, 0)
    while i < a.count || j < b.count {
      if i < a.count, j < b.count, a[i] == b[j] {
        result.append(" \(a[i])")
        (i, j) = (i + 1, j + 1)
      } else if j == b.count || i < a.count && lengths[(i + 1) * width + j] >= lengths[i * width + j + 1] {
        result.append("-\(a[i])")
        i += 1
      } else {
        result.append("+\(b[j])")
        j += 1
      }
    }
    return result
  }
}
