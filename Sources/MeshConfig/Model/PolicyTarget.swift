/// Which workloads a policy is for: a label selector, or references to objects (Istio, general rules).
public struct PolicyTarget: Hashable, Sendable {
  /// nil: no selector; empty: every workload of the namespace.
  public var matchLabels: [String: String]?
  /// At most 16, all in the policy's own namespace.
  public var references: [Reference]

  public struct Reference: Hashable, Sendable {
    public var group: String
    public var kind: String
    public var name: String
  }

  /// Whether a workload with these labels is meant, in the policy's namespace. References never mean a sidecar's workload.
  public func selects(_ labels: [String: String]) -> Bool {
    references.isEmpty && Labels.match(matchLabels ?? [:], labels)
  }

  init(matchLabels: [String: String]?, references: [Reference]) {
    self.matchLabels = matchLabels
    self.references = references
  }

  init(_ fields: inout Fields) {
    matchLabels = (fields.object("selector") as LabelSelector?)?.labels
    let single: Reference? = fields.has("targetRef") ? fields.object("targetRef") : nil
    var all: [Reference] = fields.list("targetRefs")
    let written = fields.path / "targetRefs"
    if all.count > 16 { fields.report.error(written, "at most 16 targetRefs") }
    if single != nil && !all.isEmpty { fields.error("targetRef", "only one of targetRef and targetRefs can be set") }
    if let single { all.append(single) }
    references = all
    if matchLabels != nil && !all.isEmpty {
      fields.error("selector", "only one of selector, targetRef or targetRefs can be set")
    }
  }
}

/// `selector` with `matchLabels`, as policies write it.
struct LabelSelector: FieldDecodable {
  let labels: [String: String]
  init(_ fields: inout Fields) {
    labels = fields.stringMap("matchLabels")
    fields.checkSelectorLabels(labels, "matchLabels")
  }
}

/// `workloadSelector` with `labels`, as traffic objects write it.
struct WorkloadSelector: FieldDecodable {
  let labels: [String: String]
  init(_ fields: inout Fields) {
    labels = fields.stringMap("labels")
    fields.checkSelectorLabels(labels, "labels")
  }
}

extension Fields {
  /// A string that, when written, is not empty.
  mutating func filledString(_ name: String) -> String? {
    guard let text = string(name) else { return nil }
    if text.isEmpty { error(name, "must not be empty") }
    return text
  }

  /// A list of strings none of which is empty.
  mutating func filledStrings(_ name: String, maximum: Int = ConfigLimits.itemsMax) -> [String] {
    let items = strings(name)
    if items.count > maximum { error(name, "at most \(maximum) items") }
    for (index, item) in items.enumerated() where item.isEmpty {
      report.error((path / name)[index], "must not be empty")
    }
    return items
  }

  mutating func checkSelectorLabels(_ labels: [String: String], _ name: String) {
    if labels.isEmpty {
      report.warning(path, "the selector names no labels: every workload of the namespace is meant", hint: "leave it out")
    }
    for (key, value) in labels.sorted(by: { $0.key < $1.key }) {
      if key.isEmpty { error(name, "key must not be empty") }
      if key.utf8.contains(0x2A) || value.utf8.contains(0x2A) { error(name, "wildcard is not supported in selector") }
      if value.utf8.count > 63 { error(name, "a label value has at most 63 bytes") }
    }
  }
}

extension PolicyTarget.Reference: FieldDecodable {
  init(_ fields: inout Fields) {
    group = fields.string("group") ?? ""
    kind = fields.requiredString("kind")
    name = fields.requiredString("name")
    if let namespace = fields.text("namespace") {
      fields.error("namespace", "cross namespace referencing is not currently supported: '\(namespace.prefix(80))'")
    }
    if !group.isEmpty && !NameForm.isSubdomain(group) { fields.error("group", "'\(group.prefix(80))' is not an API group") }
    if name.utf8.count > ConfigLimits.subdomainBytesMax {
      fields.error("name", "at most \(ConfigLimits.subdomainBytesMax) bytes")
    }
    guard !kind.isEmpty else { return }
    let known = [
      ("", "Service"), ("networking.istio.io", "ServiceEntry"), ("gateway.networking.k8s.io", "Gateway"),
      ("gateway.networking.k8s.io", "GatewayClass"),
    ]
    let normalized = group == "core" ? "" : group
    if !known.contains(where: { $0 == (normalized, kind) }) {
      fields.error("kind", "a policy cannot target \(kind.prefix(80)) of the group '\(group.prefix(80))'")
    }
  }
}
