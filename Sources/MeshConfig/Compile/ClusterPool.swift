import Primitives

/// Builds each destination once, whoever routes to it: service × port × subset × the DestinationRule in force.
///
/// Lives over snapshots: a destination keeps its index while something leads to it, and is built again only when its
/// service, its rule or its endpoints change.
struct ClusterPool {
  /// `PassthroughCluster`: the request's own destination.
  static let passthrough: ClusterIndex = 0

  private(set) var clusters: ClusterTable
  /// Clusters built since `takeTouched`.
  private var touched: Set<ClusterIndex> = []
  private(set) var catalog: ServiceCatalog
  /// What each client sees.
  private var sidecars = SidecarIndex([], rootNamespace: "")
  private var backendTLS = GatewayAPI.BackendTLSTable([], domain: "")
  private(set) var rules: RuleIndex
  var book: WorkloadBook
  private let compiler: ClusterCompiler
  /// Whether the mesh compares labels of clients and endpoints wherever a rule does not say otherwise.
  private let usesClientLabels: Bool
  private var byKey: [Key: ClusterIndex] = [:]
  private var byService: [ServiceID: [ClusterIndex]] = [:]
  /// Addresses of names outside the mesh, as far as they are known.
  var names: [String: [String]] = [:]
  /// What stands behind each service that has clusters.
  private var members: [ServiceID: (entry: ServiceCatalog.Entry, workloads: [WorkloadBook.Entry], WrittenAddresses)] = [:]
  /// Hosts whose destinations are decided anew, until that is settled; nil: all.
  private var open: Set<String>? = []
  private var used: Set<ClusterIndex> = []
  private var missing: [Wanted] = []
  /// Within one compilation only.
  private var ruleByScope: [ScopeKey: RuleIndex.Merged?] = [:]
  private var answers: [ClientScope: [DestinationQuery: DestinationAnswer]] = [:]
  private var asked: [DestinationQuery]?
  /// Counts since the beginning: clusters described, those of them that were compiled at once, and questions answered.
  private(set) var built = 0
  private(set) var warmed = 0
  private(set) var destinationsAsked = 0

  struct Key: Hashable {
    let service: ServiceID
    let port: UInt16
    let subset: String?
    let rule: String?
    /// Only where priorities depend on the client's labels.
    let clientLabels: [String: String]?
    /// Of a BackendTLSPolicy, which comes before what a DestinationRule says.
    let backendTLS: UpstreamTLS?

    /// Few differ in the rest.
    func hash(into hasher: inout Hasher) {
      hasher.combine(service.host)
      hasher.combine(port)
      hasher.combine(subset)
    }
  }
  private struct ScopeKey: Hashable {
    let service: Int
    let client: ClientScope
  }

  /// A destination as some client is led to it.
  private struct Wanted {
    let key: Key
    let rule: RuleIndex.Merged?
    let client: ClientScope
    let service: Int
  }

  init(book: WorkloadBook, settings: MeshSettings) {
    catalog = ServiceCatalog([])
    rules = RuleIndex(settings: settings)
    self.book = book
    compiler = ClusterCompiler(settings: settings)
    usesClientLabels = !settings.clientLabelKeys.isEmpty
    clusters = ClusterTable([compiler.passthrough])
    touched = [Self.passthrough]
  }

  /// Envoy's spelling of a destination.
  static func name(host: String, port: UInt16, subset: String?) -> String { "outbound|\(port)|\(subset ?? "")|\(host)" }

  // MARK: Asking

  /// The destination for a client; nil when the subset is not defined by the rule in force.
  private mutating func cluster(service: Int, port: Int, subset: String?, client: ClientScope) -> ClusterIndex? {
    let rule = rule(forService: service, client: client)
    let definition = subset.flatMap { rule?.subset($0) }
    if subset != nil && definition == nil { return nil }
    let wanted = wanted(service, port: port, definition, rule, client)
    return byKey[wanted.key] ?? add(wanted)
  }

  private func wanted(
    _ service: Int, port: Int, _ subset: DestinationRule.Subset?, _ rule: RuleIndex.Merged?, _ client: ClientScope
  ) -> Wanted {
    let entry = catalog.entries[service]
    let servicePort = entry.service.ports[port]
    let key = Key(
      service: entry.id, port: servicePort.number, subset: subset?.name, rule: rule?.name,
      clientLabels: usesClientLabels || rule?.usesClientLabels == true ? client.labels : nil,
      backendTLS: backendTLS.tls(host: entry.service.host, portName: servicePort.name, by: client.gateway)
        ?? backendTLS.credentials.tls(
          TrafficPolicyCompiler.blocks(rule, subset: subset, port: servicePort.number).tls, of: rule, client: client,
          entryNames: entry.subjectAltNames))
    return Wanted(key: key, rule: rule, client: client, service: service)
  }

  private mutating func add(_ wanted: Wanted) -> ClusterIndex {
    let index = clusters.count
    built += 1
    clusters.cells.append(ClusterCell(recipe(of: wanted), isInUse: false))
    touched.insert(index)
    used.insert(index)
    byKey[wanted.key] = index
    byService[wanted.key.service, default: []].append(index)
    return index
  }

  private mutating func recipe(of wanted: Wanted) -> ClusterRecipe {
    recipe(wanted.key, catalog.entries[wanted.service], wanted.rule, wanted.client, service: wanted.service)
  }

  private mutating func recipe(
    _ key: Key, _ entry: ServiceCatalog.Entry, _ rule: RuleIndex.Merged?, _ client: ClientScope, service: Int?
  ) -> ClusterRecipe {
    let behind: [WorkloadBook.Entry]
    let addresses: WrittenAddresses
    if let known = members[entry.id], known.entry === entry {
      (_, behind, addresses) = known
    } else {
      behind = book.members(of: entry)
      addresses = writtenAddresses(of: entry)
      members[entry.id] = (entry, behind, addresses)
    }
    return ClusterRecipe(
      key: key, entry: entry, rule: rule, client: client, service: service, members: behind, addresses: addresses,
      compiler: compiler)
  }

  private func writtenAddresses(of entry: ServiceCatalog.Entry) -> WrittenAddresses {
    var found = WrittenAddresses()
    for name in entry.resolvedNames { found.names[name] = names[name] }
    for address in entry.memberAddresses { found.members[address] = book.workloads(at: address) }
    return found
  }

  /// What has been called stays ready to be called.
  private mutating func replace(_ index: ClusterIndex, with recipe: ClusterRecipe) {
    let isInUse = clusters.cells[index].isMade
    built += 1
    if isInUse { warmed += 1 }
    clusters.cells.replace(at: index, with: ClusterCell(recipe, isInUse: isInUse))
    touched.insert(index)
  }

  mutating func rule(forService service: Int, client: ClientScope) -> RuleIndex.Merged? {
    let key = ScopeKey(service: service, client: client)
    if let known = ruleByScope[key] { return known }
    let target = catalog.entries[service].service
    let rule = rules.rule(forHost: target.host, serviceNamespace: target.namespace, client: client)
    ruleByScope[key] = .some(rule)
    return rule
  }

  /// Where a client is led by a destination that a rule names.
  mutating func destination(_ query: DestinationQuery, client: ClientScope) -> DestinationAnswer {
    asked?.append(query)
    destinationsAsked += 1
    if let known = answers[client]?[query] { return known }
    let answer = resolve(query, client)
    if answers[client]?.count ?? 0 >= ConfigLimits.answersMax { answers[client] = nil }
    answers[client, default: [:]][query] = answer
    return answer
  }

  /// The explicit port, else the only one of the service, else the listener's.
  private mutating func resolve(_ query: DestinationQuery, _ client: ClientScope) -> DestinationAnswer {
    guard let service = catalog.index(ofHost: query.host, seenFrom: client.namespace), isVisible(service, to: client) else {
      let name = Self.name(host: query.host, port: query.port ?? query.listenerPort, subset: query.subset)
      return DestinationAnswer(cluster: nil, name: name)
    }
    let ports = catalog.entries[service].service.ports
    let number = query.port ?? (ports.count == 1 ? ports[0].number : query.listenerPort)
    let name = Self.name(host: query.host, port: number, subset: query.subset)
    guard let port = ports.firstIndex(where: { $0.number == number }) else {
      return DestinationAnswer(cluster: nil, name: name)
    }
    return DestinationAnswer(cluster: cluster(service: service, port: port, subset: query.subset, client: client), name: name)
  }

  private func isVisible(_ service: Int, to client: ClientScope) -> Bool {
    let target = catalog.entries[service].service
    return sidecars.scope(of: client)?.admits(target.host, namespace: target.namespace) ?? true
  }

  /// Runs `body` and returns with its result every destination it asked for.
  mutating func recording<Result>(_ body: (inout ClusterPool) -> Result) -> (result: Result, asked: [DestinationQuery]) {
    let outer = asked
    asked = []
    let result = body(&self)
    let found = asked ?? []
    asked = outer.map { $0 + found }
    return (result, found)
  }

  // MARK: Names outside the mesh

  /// Names whose addresses are endpoints of clusters that are built, in their order.
  var namesToResolve: [String] {
    let wanted = catalog.byResolvedName.filter { $0.value.contains { byService[$0] != nil } }.keys.sorted()
    return Array(wanted.prefix(ConfigLimits.resolvedNamesMax))
  }

  /// Takes the addresses of names. Returns the services whose endpoints they are.
  mutating func use(names: [String: [String]]) -> Set<ServiceID> {
    let old = self.names
    if names == old { return [] }
    self.names = names
    let changed = Set(names.keys).union(old.keys).filter { names[$0] != old[$0] }
    return Set(changed.flatMap { catalog.byResolvedName[$0] ?? [] })
  }

  // MARK: Over snapshots

  /// - Returns: hosts that are other than before, and whether clients see other names or ports; see `ServiceCatalog.changes`.
  mutating func use(catalog: ServiceCatalog) -> (hosts: Set<String>, ofNames: Bool) {
    let changes = catalog.changes(since: self.catalog)
    self.catalog = catalog
    forgetAnswers()
    if changes.ofNames { renumberServices() }
    return changes
  }

  /// Other services came before some, or are gone.
  private mutating func renumberServices() {
    for index in clusters.indices {
      guard let recipe = clusters.cells[index].recipe, let service = catalog.index(of: recipe.key.service),
        recipe.service != service
      else { continue }
      clusters.cells.replace(at: index, with: clusters.cells[index].moved(to: service))
      touched.insert(index)
    }
  }

  /// Returns the hosts and wildcards whose rules are other than they were.
  mutating func update(rules changed: Set<ObjectKey>, _ objects: HeldObjects) -> Set<String> {
    defer { forgetAnswers() }
    return rules.update(changed, objects)
  }

  mutating func use(sidecars: SidecarIndex) {
    self.sidecars = sidecars
    forgetAnswers()
  }

  mutating func use(backendTLS: GatewayAPI.BackendTLSTable) {
    self.backendTLS = backendTLS
    forgetAnswers()
  }

  /// What is found out for one compilation is not kept for the next.
  mutating func forgetAnswers() {
    ruleByScope = [:]
    answers = [:]
  }

  // MARK: Deciding which destinations there are

  /// Begins to decide anew which destinations these hosts have; nil: all hosts. Nothing may be asked until that is settled.
  mutating func begin(_ hosts: Set<String>?) {
    open = hosts
    used = [Self.passthrough]
    forgetAnswers()
  }

  /// A client may be sent to a service, whether or not a route names it: to every port, and every subset of the rule in force.
  mutating func want(service: Int, client: ClientScope) {
    if client.isGateway, client.gateway == nil {
      for gateway in backendTLS.gateways(calling: catalog.entries[service].service.host) {
        var own = client
        own.gateway = gateway
        want(service: service, client: own)
      }
    }
    let rule = rule(forService: service, client: client)
    let subsets = [nil] + (rule?.subsets ?? []).map { Optional($0) }
    for port in catalog.entries[service].service.ports.indices {
      for subset in subsets { want(wanted(service, port: port, subset, rule, client)) }
    }
  }

  private mutating func want(_ wanted: Wanted) {
    guard let known = byKey[wanted.key] else {
      // One that is there already and turns out to be wanted no more is made into what is missing.
      if byService[wanted.key.service]?.allSatisfy(used.contains) ?? true { _ = add(wanted) } else { missing.append(wanted) }
      return
    }
    used.insert(known)
    let old = clusters.cells[known].recipe
    if old?.entry !== catalog.entries[wanted.service] || old?.rule !== wanted.rule { replace(known, with: recipe(of: wanted)) }
  }

  /// Makes what is missing and drops what nothing leads to any more. The last destinations move into the gaps. What only has another rule
  /// in force keeps its index. Returns the hosts of those that moved: whoever leads there has to ask again.
  mutating func settle() -> Set<String> {
    defer { (open, used, missing) = ([], [], []) }
    var stale = unused()
    for wanted in missing where byKey[wanted.key] == nil {
      let like = byService[wanted.key.service]?.first { index in
        guard stale.contains(index), let key = clusters.cells[index].recipe?.key else { return false }
        return key.port == wanted.key.port && key.subset == wanted.key.subset
      }
      guard let like else {
        _ = add(wanted)
        continue
      }
      stale.remove(like)
      if let key = clusters.cells[like].recipe?.key { byKey[key] = nil }
      byKey[wanted.key] = like
      replace(like, with: recipe(of: wanted))
    }
    return drop(stale)
  }

  private func unused() -> Set<ClusterIndex> {
    guard let open else { return used.count == clusters.count ? [] : Set(clusters.indices).subtracting(used) }
    let concerned = byService.filter { open.contains($0.key.host) }.flatMap(\.value)
    return Set(concerned).subtracting(used)
  }

  private mutating func drop(_ stale: Set<ClusterIndex>) -> Set<String> {
    var moves: Set<String> = []
    for index in stale.sorted(by: >) {
      let last = clusters.count - 1
      forget(index)
      if index != last {
        let moved = clusters.cells[last]
        clusters.cells.replace(at: index, with: moved)
        if let key = moved.recipe?.key {
          byKey[key] = index
          byService[key.service] = (byService[key.service] ?? []).map { $0 == last ? index : $0 }
          moves.insert(key.service.host)
        }
        touched.insert(index)
      }
      clusters.cells.removeLast()
      touched.remove(last)
    }
    return catalog.withAliases(moves)
  }

  private mutating func forget(_ index: ClusterIndex) {
    guard let key = clusters.cells[index].recipe?.key else { return }
    byKey[key] = nil
    byService[key.service]?.removeAll { $0 == index }
    if byService[key.service]?.isEmpty == true {
      byService[key.service] = nil
      members[key.service] = nil
    }
  }

  /// Builds the clusters of services whose endpoints have changed.
  mutating func rebuild(_ services: Set<ServiceID>) {
    for service in services {
      members[service] = nil
      for index in byService[service] ?? [] {
        guard let old = clusters.cells[index].recipe else { continue }
        replace(index, with: recipe(old.key, old.entry, old.rule, old.client, service: old.service))
      }
    }
  }

  /// Clusters built or moved since the last call, sorted.
  mutating func takeTouched() -> [ClusterIndex] {
    defer { touched = [] }
    return touched.sorted()
  }
}

/// A destination as a rule names it, its host resolved.
struct DestinationQuery: Hashable {
  var host: String
  var subset: String?
  /// As written.
  var port: UInt16?
  /// Where the request entered.
  var listenerPort: UInt16
}

/// Where a destination leads; no cluster when the host, port or subset does not exist.
struct DestinationAnswer: Hashable {
  var cluster: ClusterIndex?
  var name: String
}
