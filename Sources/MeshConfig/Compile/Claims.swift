/// The rules of the mesh as one client sees them: of several objects for one host the oldest has it.
struct Claims {
  let book: RuleBook
  let client: ClientScope
  /// What a Sidecar lets the client see; nil: everything that is exported.
  let scope: SidecarIndex.Scope?

  /// The rules written for just this host or wildcard.
  subscript(_ pattern: String) -> RuleBook.Entry? { book.byHost[pattern].flatMap(first) }

  /// The rules for a host: its own, else those of the most specific wildcard.
  func value(covering host: String) -> RuleBook.Entry? { book.byHost.first(covering: host, first) }

  /// Every host and wildcard that has rules, exact names first, the more specific before the less.
  var patterns: [String] { book.byHost.patterns.filter { self[$0] != nil } }
  var isEmpty: Bool { book.byHost.isEmpty }
  var hasWildcards: Bool { book.byHost.hasWildcards }

  /// Whether the client sees what an entry says of a host.
  func admits(_ entry: RuleBook.Entry, for host: String) -> Bool {
    entry.isForMesh && Visibility.allows(entry.exportTo, client.namespace)
      && scope?.admits(host, namespace: entry.key.namespace) ?? true
  }

  private func first(_ rules: RuleBook.HostRules) -> RuleBook.Entry? {
    rules.entries.first { admits($0, for: rules.host) }
  }

  /// Objects that have lost a host to an older one.
  var findings: [Finding] {
    book.contested.sorted().flatMap { host -> [Finding] in
      let seen = (book.byHost[host]?.entries ?? []).filter { admits($0, for: host) }
      guard let owner = seen.first else { return [] }
      return seen.dropFirst().map { entry in
        Finding(
          severity: .error, code: Finding.Code.conflictingMeshHosts, object: entry.key.description, path: "spec.hosts",
          reason: "ignored for \(host): the older \(owner.key) routes it", hint: "put all rules for a host in one object")
      }
    }
  }
}
