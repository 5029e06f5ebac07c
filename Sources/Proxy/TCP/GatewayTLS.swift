import MeshConfig
import Primitives
import Transport

/// The servers that share one port of this node's gateway.
struct GatewayPort: Sendable {
  /// Indices into the snapshot's gateways.
  var listeners: [Int] = []
  /// Chooses among the servers that end TLS; nil when there is none.
  var context: TLSContext?
  var isTLS = false
  /// Some connections pass through untouched, so every ClientHello is looked at first.
  var hasPassthrough = false
  var expectsProxyProtocol = false
  /// Nothing stands between accept and HTTP.
  var isPlainHTTP = false

  /// The server for a name: the most specific pattern that admits it.
  func listener(for name: [UInt8], in snapshot: MeshSnapshot) -> Int? {
    var best: (index: Int, pattern: ServerNamePattern)?
    for index in listeners where snapshot.gateways.indices.contains(index) {
      for pattern in snapshot.gateways[index].serverNames where pattern.admits(name) {
        if let best, !ServerNamePattern.isMoreSpecific(pattern, best.pattern) { continue }
        best = (index, pattern)
      }
    }
    return best?.index
  }
}

/// What gateway servers show and ask for, kept from one state to the next while nothing about it has changed: clients that
/// come back may resume their sessions.
struct GatewayContexts: Sendable {
  private struct Key: Hashable {
    var tls: ServerTLS
    var server: String
    var protocols: [String]
    /// Of the files named, as they were when they were read.
    var files: [FileStamp]
    /// The workload's own certificate, where it is shown: it changes without a word in the configuration.
    var own: Own?
  }

  private struct Own: Hashable {
    let context: TLSContext
    static func == (a: Own, b: Own) -> Bool { a.context === b.context }
    func hash(into hasher: inout Hasher) { hasher.combine(ObjectIdentifier(context)) }
  }

  private(set) var ports: [GatewayPlace: GatewayPort] = [:]
  /// Index into the snapshot's gateways.
  private(set) var listenerByContext: [ObjectIdentifier: Int] = [:]
  /// Of ports that Sidecars open for others to reach workloads.
  private(set) var workloads: [ProxyListener.Kind: TLSContext] = [:]
  private var contexts: [Key: Result<TLSContext, TLSError>] = [:]
  private var choosers: [GatewayPlace: Chooser] = [:]
  /// Of each port, whichever servers it has.
  private var ticketKeys: [GatewayPlace: TicketKeys] = [:]

  /// The context that connections to a port begin with: the name asked for decides.
  private struct Chooser: Sendable {
    var patterns: [ServerNamePattern]
    var contexts: [TLSContext]
    var context: TLSContext?

    func chooses(among others: [(pattern: ServerNamePattern, context: TLSContext)]) -> Bool {
      patterns == others.map(\.pattern) && zip(contexts, others).allSatisfy { $0 === $1.context }
    }
  }

  /// Why servers cannot shake hands, by `GatewayListener.server`.
  private(set) var failures: [String: TLSError] = [:]

  init(_ snapshot: MeshSnapshot, workloads: [ProxyIdentities.Workload?], after old: GatewayContexts?) {
    var terminating: [GatewayPlace: [(index: Int, context: TLSContext)]] = [:]
    for (index, listener) in snapshot.gateways.enumerated() {
      ports[listener.place, default: GatewayPort()].add(index, listener)
      guard let tls = listener.role.terminated else { continue }
      let own = workloads.indices.contains(listener.localWorkload) ? workloads[listener.localWorkload] : nil
      let protocols = if case .https = listener.role { GatewayProtocol.http } else { [String]() }
      switch context(tls, listener.server, protocols, own, after: old) {
      case .success(let context):
        listenerByContext[ObjectIdentifier(context)] = index
        terminating[listener.place, default: []].append((index, context))
      case .failure(let error): failures[listener.server] = error
      }
    }
    addWorkloads(snapshot, own: workloads, after: old)
    for (place, servers) in terminating {
      let sorted = Self.sorted(servers, snapshot)
      let known = old?.choosers[place].flatMap { $0.chooses(among: sorted) ? $0 : nil }
      let keys = old?.ticketKeys[place] ?? TicketKeys()
      ticketKeys[place] = keys
      choosers[place] = known ?? Self.chooser(sorted, keys)
      ports[place]?.context = choosers[place]?.context
    }
  }

  private mutating func addWorkloads(
    _ snapshot: MeshSnapshot, own: [ProxyIdentities.Workload?], after old: GatewayContexts?
  ) {
    for (index, local) in snapshot.localWorkloads.enumerated() where snapshot.workloads.indices.contains(local.workload) {
      for listener in local.listeners {
        guard case .inbound(let speaks, _, let tls?) = listener.role else { continue }
        let kind = ProxyListener.Kind.sidecar(
          workload: snapshot.workloads[local.workload].key, bind: listener.bind, port: listener.port)
        let protocols = speaks.isHTTP ? GatewayProtocol.http : []
        switch context(tls, "\(kind)", protocols, own.indices.contains(index) ? own[index] : nil, after: old) {
        case .success(let context): workloads[kind] = context
        case .failure(let error): failures["\(kind)"] = error
        }
      }
    }
  }

  private mutating func context(
    _ tls: ServerTLS, _ server: String, _ protocols: [String], _ own: ProxyIdentities.Workload?, after old: GatewayContexts?
  ) -> Result<TLSContext, TLSError> {
    let shown = tls.sources.contains(.workload) ? own.map { Own(context: $0.server) } : nil
    let key = Key(tls: tls, server: server, protocols: protocols, files: tls.files.map { FileStamp(path: $0) }, own: shown)
    let made = old?.contexts[key] ?? Self.make(tls, protocols, own)
    contexts[key] = made
    return made
  }

  /// The most specific name first.
  private static func sorted(
    _ servers: [(index: Int, context: TLSContext)], _ snapshot: MeshSnapshot
  ) -> [(pattern: ServerNamePattern, context: TLSContext)] {
    servers.flatMap { server in snapshot.gateways[server.index].serverNames.map { ($0, server.context) } }
      .sorted { ServerNamePattern.isMoreSpecific($0.pattern, $1.pattern) }
  }

  private static func chooser(
    _ sorted: [(pattern: ServerNamePattern, context: TLSContext)], _ keys: TicketKeys
  ) -> Chooser {
    var options = TLSOptions()
    options.resumesSessions = true
    options.ticketKeys = keys
    let context: TLSContext? = try? .server(
      identity: nil, trust: .nobody, protocols: [], minimum: .tls12, options: options,
      selectByName: { name in sorted.first { $0.pattern.admits(name) }?.context })
    return Chooser(patterns: sorted.map(\.pattern), contexts: sorted.map(\.context), context: context)
  }

  private static func make(
    _ tls: ServerTLS, _ protocols: [String], _ own: ProxyIdentities.Workload?
  ) -> Result<TLSContext, TLSError> {
    do {
      if tls.sources == [.workload] {
        guard let own else { throw TLSError.configuration("the gateway workload has no certificate yet") }
        var options = TLSOptions()
        options.resumesSessions = true
        return .success(
          try .server(
            identity: own.server.identity, trust: own.server.trust, protocols: protocols, minimum: .tls12, options: options))
      }
      let identities = try tls.sources.map { try identity($0) }
      var options = TLSOptions(maximum: tls.maximum == .tls12 ? .tls12 : .tls13, cipherSuites: tls.cipherSuites)
      options.otherIdentities = Array(identities.dropFirst())
      options.curves = tls.curves
      options.revocations = try revocations(tls.revocations)
      // Rules, authorities or revocations that change make another context, with which no earlier session goes on. A session
      // does not tell whether its client was verified.
      options.resumesSessions = !tls.acceptsUnverified
      return .success(
        try .server(
          identity: identities.first, trust: trust(tls), protocols: protocols,
          minimum: tls.minimum == .tls13 ? .tls13 : .tls12, options: options))
    } catch {
      return .failure(error as? TLSError ?? .configuration("\(error)"))
    }
  }

  private static func identity(_ source: ServerTLS.Source) throws -> TLSIdentity {
    switch source {
    case .files(let certificate, let key):
      try TLSIdentity(chain: Certificate.load(certificate), key: PrivateKey(contentsOf: key))
    case .material(let certificate, let key):
      try TLSIdentity(chain: Certificate.parse(pem: certificate), key: PrivateKey(pem: key))
    case .workload: throw TLSError.configuration("the workload's certificate stands alone")
    case .missing(let reason): throw TLSError.configuration(reason)
    }
  }

  private static func revocations(_ source: ServerTLS.Authorities?) throws -> [RevocationList] {
    switch source {
    case .file(let path): try RevocationList.load(path)
    case .material(let pem): try RevocationList.parse(pem: pem)
    case nil: []
    }
  }

  private static func trust(_ tls: ServerTLS) throws -> TLSTrust {
    guard tls.clientCertificate != .notAsked else { return .nobody }
    let authorities =
      switch tls.authorities {
      case .file(let path): try Certificate.load(path)
      case .material(let pem): try Certificate.parse(pem: pem)
      case nil where tls.acceptsUnverified: [Certificate]()
      case nil: throw TLSError.configuration("no authorities to verify clients with")
      }
    return .clients(
      ClientRules(
        authorities: authorities, isRequired: tls.clientCertificate == .required, names: tls.subjectAltNames,
        publicKeyHashes: tls.publicKeyHashes, certificateHashes: tls.certificateHashes,
        acceptsUnverified: tls.acceptsUnverified))
  }
}

/// What gateways speak over TLS (ALPN), in order of preference.
enum GatewayProtocol {
  static let http = ["h2", "http/1.1"]
}

extension GatewayPort {
  fileprivate mutating func add(_ index: Int, _ listener: GatewayListener) {
    listeners.append(index)
    if listener.role.isTLS { isTLS = true }
    if case .passthrough = listener.role { hasPassthrough = true }
    if listener.expectsProxyProtocol { expectsProxyProtocol = true }
    if case .http = listener.role { isPlainHTTP = !expectsProxyProtocol }
  }
}

extension GatewayListener.Role {
  /// The settings of TLS that ends here.
  fileprivate var terminated: ServerTLS? {
    switch self {
    case .https(let tls), .tls(let tls, _): tls
    case .http, .passthrough, .tcp: nil
    }
  }
}

extension ServerTLS {
  /// Files whose change means new settings.
  fileprivate var files: [String] {
    var paths = sources.flatMap { source -> [String] in
      if case .files(let certificate, let key) = source { [certificate, key] } else { [] }
    }
    if case .file(let path) = authorities { paths.append(path) }
    if case .file(let path) = revocations { paths.append(path) }
    return paths
  }
}
