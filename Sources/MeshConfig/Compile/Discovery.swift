/// Which namespaces the mesh sees, by the labels of their Namespace objects, and what lies in the others (Istio,
/// `discoverySelectors`). The root namespace is one like the others; only the mesh's own configuration is always read.
struct Discovery: Sendable {
  /// One of them has to match; none: every namespace is seen.
  var selectors: [GatewayAPI.Selector] = []
  /// Of namespaces that have an object.
  private var labels: [String: [String: String]] = [:]
  private(set) var objects: [ObjectKey: StoredObject] = [:]
  private(set) var workloads: [String: WorkloadRecord] = [:]

  func sees(_ namespace: String) -> Bool {
    if selectors.isEmpty { return true }
    var own = labels[namespace] ?? [:]
    // Kubernetes labels every namespace with its name.
    own["kubernetes.io/metadata.name"] = namespace
    return selectors.contains { $0.matches(own) }
  }

  /// Objects without namespace are always seen.
  func sees(_ key: ObjectKey) -> Bool {
    selectors.isEmpty || key.namespace.isEmpty || key == MeshConfiguration.key || sees(key.namespace)
  }

  /// Takes the labels of a namespace, nil when it has no object any more. True when it is seen now and was not, or the reverse.
  mutating func use(_ labels: [String: String]?, of namespace: String) -> Bool {
    let before = sees(namespace)
    self.labels[namespace] = labels
    return sees(namespace) != before
  }

  /// What says which namespaces are seen comes first, so that nothing has to be looked at twice.
  static func ordered(_ objects: [StoredObject]) -> [StoredObject] {
    let leads = { (stored: StoredObject) in stored.key.kind == .namespace || stored.key == MeshConfiguration.key }
    return objects.filter(leads) + objects.filter { !leads($0) }
  }

  // MARK: What is not seen

  mutating func hide(_ object: StoredObject) { objects[object.key] = object }
  mutating func hide(_ workload: WorkloadRecord) { workloads[workload.key] = workload }
  /// nil when it was not hidden.
  @discardableResult mutating func forget(_ key: ObjectKey) -> StoredObject? {
    objects.isEmpty ? nil : objects.removeValue(forKey: key)
  }
  @discardableResult mutating func forgetWorkload(_ key: String) -> WorkloadRecord? {
    workloads.isEmpty ? nil : workloads.removeValue(forKey: key)
  }

  /// What is hidden and would be seen now, in the order of keys.
  var uncovered: (objects: [StoredObject], workloads: [WorkloadRecord]) {
    (
      objects.values.filter { sees($0.key) }.sorted { $0.key < $1.key },
      workloads.values.filter { sees($0.namespace) }.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
    )
  }

  /// One for each namespace that is not seen although something lies in it.
  var findings: [Finding] {
    var counts: [String: (objects: Int, workloads: Int)] = [:]
    for key in objects.keys { counts[key.namespace, default: (0, 0)].objects += 1 }
    for workload in workloads.values { counts[workload.namespace, default: (0, 0)].workloads += 1 }
    return counts.sorted { $0.key < $1.key }.map { namespace, count in
      Finding(
        severity: .warning, code: Finding.Code.notEnforced, object: "Namespace \(namespace)", path: "metadata.labels",
        reason:
          "discoverySelectors do not select it: its objects (\(count.objects)) and workloads (\(count.workloads)) are not seen",
        hint: "label the namespace, or select it in the mesh's discoverySelectors")
    }
  }
}

extension MeshSettings {
  /// The objects that the mesh sees.
  public func visible(_ objects: [StoredObject]) -> [StoredObject] {
    guard !discoverySelectors.isEmpty else { return objects }
    var discovery = Discovery()
    discovery.selectors = discoverySelectors
    for object in objects where object.key.kind == .namespace {
      _ = discovery.use(object.object.meta.labels, of: object.key.name)
    }
    return objects.filter { discovery.sees($0.key) }
  }
}
