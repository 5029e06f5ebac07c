import MeshConfig
import Primitives
import Traffic
import Transport

/// The TLS material of the data plane: one pair of contexts for each local workload, by `WorkloadFacts.key`.
public struct ProxyIdentities: Sendable {
  /// What a workload shows as a server on the mesh port, and as a client of other nodes.
  public struct Workload: Sendable {
    public var server: TLSContext
    public var client: TLSContext

    /// - Parameters:
    ///   - identity: the workload's certificate chain and key.
    ///   - bundle: whom it trusts, in both directions.
    ///   - curves: OpenSSL's names of groups for key exchange; empty: the default.
    public init(identity: TLSIdentity, bundle: TrustBundle, curves: [String] = []) throws(TLSError) {
      var options = TLSOptions()
      options.curves = curves
      options.resumesSessions = true
      let trust = TLSTrust.members(bundle)
      server = try .server(identity: identity, trust: trust, protocols: MeshProtocol.accepted, options: options)
      client = try .client(identity: identity, trust: trust, protocols: MeshProtocol.names, options: options)
      self.bundle = bundle
      self.curves = curves
    }

    private let bundle: TrustBundle
    private let curves: [String]

    /// Whether it was made of these: then it is kept, and with it the sessions that peers may resume.
    public func isMade(of chain: [Certificate], bundle: TrustBundle, curves: [String] = []) -> Bool {
      server.identity?.chain == chain && self.bundle == bundle && self.curves == curves
    }
  }

  public var workloads: [String: Workload]

  public init(_ workloads: [String: Workload] = [:]) { self.workloads = workloads }
}

/// What is spoken on the mesh port (ALPN).
enum MeshProtocol {
  static let names = ["h2"]
  /// Istio's name for bytes that are not looked into.
  static let tcp = "istio"
  /// What the mesh port takes.
  static let accepted = names + [tcp]
}

/// The contexts a state needs, made once when it is built.
struct TLSMaterial: Sendable {
  /// Of the mesh port: the certificate follows the server name; nil while no local workload has one.
  let inbound: TLSContext?
  private let inboundServers: [(key: [UInt8], value: TLSContext)]
  private let inboundTickets: TicketKeys
  /// What clients of the mesh port are shown who ask for no name.
  private let unnamed: [(address: IPAddress?, context: TLSContext)]
  /// By index of the local workload.
  let clients: [TLSContext?]
  /// For servers outside the mesh, by what the DestinationRule says; a failure stays one until the next state.
  private let originations: [Origination: Result<TLSContext, TLSError>]
  /// The files that the originations were made of, and what the mesh says of all of them.
  private let stamps: [UpstreamTLS: [FileStamp]]
  private let defaults: MeshConfiguration.TLSDefaults

  private struct Origination: Hashable {
    var tls: UpstreamTLS
    var http2: Bool
  }

  /// The ports of this node's gateway.
  let gatewayContexts: GatewayContexts
  var gateways: [GatewayPlace: GatewayPort] { gatewayContexts.ports }
  var listenerByContext: [ObjectIdentifier: Int] { gatewayContexts.listenerByContext }

  /// - Parameter old: what was made for the state before, to be kept where nothing has changed.
  init(
    _ snapshot: MeshSnapshot, _ identities: ProxyIdentities, inboundNames: [(key: [UInt8], value: Int)],
    upstream: Set<UpstreamTLS>, after old: TLSMaterial?
  ) {
    let own = snapshot.localWorkloads.map { local in
      snapshot.workloads.indices.contains(local.workload)
        ? identities.workloads[snapshot.workloads[local.workload].key] : nil
    }
    clients = own.map { $0?.client }
    let servers: [(key: [UInt8], value: TLSContext)] = inboundNames.compactMap { name in
      own[name.value].map { (name.key, $0.server) }
    }
    unnamed = snapshot.localWorkloads.enumerated().compactMap { index, local in
      own[index].map { (key: snapshot.workloads[local.workload].key, IPAddress(local.address), $0.server) }
    }.sorted { $0.key < $1.key }.map { (address: $0.1, context: $0.2) }
    inboundTickets = old?.inboundTickets ?? TicketKeys()
    // A context for the port costs more than all else here, and is the same while its servers are.
    let isSame = old?.inboundServers.elementsEqual(servers) { $0.key == $1.key && $0.value === $1.value } ?? false
    inbound = isSame ? old?.inbound : Self.inboundContext(servers, inboundTickets)
    inboundServers = servers
    gatewayContexts = GatewayContexts(snapshot, workloads: own, after: old?.gatewayContexts)
    var originations: [Origination: Result<TLSContext, TLSError>] = [:]
    var stamps: [UpstreamTLS: [FileStamp]] = [:]
    let defaults = snapshot.settings.tlsDefaults
    for tls in upstream {
      let files = tls.files.map { FileStamp(path: $0) }
      stamps[tls] = files
      for http2 in [false, true] {
        let key = Origination(tls: tls, http2: http2)
        originations[key] =
          old?.stamps[tls] == files && old?.defaults == defaults
          ? old?.originations[key] : Self.origination(tls, protocols: [http2 ? "h2" : "http/1.1"], defaults)
      }
    }
    self.originations = originations
    self.stamps = stamps
    self.defaults = defaults
  }

  /// The identity for clients of the mesh port that ask for no name: of a workload at the address they came to, or of the
  /// first there is.
  func unnamedInbound(at address: IPAddress?) -> TLSContext? {
    (unnamed.first { $0.address == address?.unmapped } ?? unnamed.first)?.context
  }

  /// For one server outside the mesh, and what is to be spoken with it.
  func origination(_ tls: UpstreamTLS, http2: Bool) -> Result<TLSContext, TLSError>? {
    originations[Origination(tls: tls, http2: http2)]
  }

  private static func inboundContext(_ servers: [(key: [UInt8], value: TLSContext)], _ tickets: TicketKeys) -> TLSContext? {
    guard let first = servers.first else { return nil }
    var options = TLSOptions()
    options.resumesSessions = true
    options.ticketKeys = tickets
    let byName = ByteTable(servers)
    return try? .server(
      identity: nil, trust: first.value.trust, protocols: MeshProtocol.accepted, options: options,
      selectByName: { byName[$0] })
  }

  private static func origination(
    _ tls: UpstreamTLS, protocols: [String], _ defaults: MeshConfiguration.TLSDefaults
  ) -> Result<TLSContext, TLSError>? {
    switch tls {
    case .automatic, .disabled, .istioMutual: nil
    case .simple(_, _, let authorities, let insecure, let revocations):
      client(nil, trust(authorities, insecure: insecure), revocations, protocols, defaults)
    case .mutual(_, _, let authorities, let certificate, let key, let insecure, let revocations):
      client(
        Result { try clientIdentity(certificate, key) }, trust(authorities, insecure: insecure), revocations, protocols,
        defaults)
    }
  }

  private static func clientIdentity(_ certificate: String, _ key: String) throws -> TLSIdentity {
    guard certificate.hasPrefix("-----BEGIN ") else {
      return try TLSIdentity(chain: Certificate.load(certificate), key: PrivateKey(contentsOf: key))
    }
    return try TLSIdentity(chain: Certificate.parse(pem: Array(certificate.utf8)), key: PrivateKey(pem: Array(key.utf8)))
  }

  private static func trust(_ authorities: String?, insecure: Bool) -> Result<TLSTrust, any Error> {
    if insecure { return .success(.nobody) }
    guard let authorities else { return .success(.system) }
    // A BackendTLSPolicy carries its authorities itself.
    let isPEM = authorities.hasPrefix("-----BEGIN ")
    return Result {
      .authorities(try isPEM ? Certificate.parse(pem: Array(authorities.utf8)) : Certificate.load(authorities))
    }
  }

  private static func client(
    _ identity: Result<TLSIdentity, any Error>?, _ trust: Result<TLSTrust, any Error>, _ revocations: String?,
    _ protocols: [String], _ defaults: MeshConfiguration.TLSDefaults
  ) -> Result<TLSContext, TLSError> {
    do {
      var options = TLSOptions(cipherSuites: defaults.cipherSuites)
      options.curves = defaults.curves
      options.revocations = try revocations.map { try RevocationList.load($0) } ?? []
      options.resumesSessions = true
      return .success(
        try .client(
          identity: identity?.get(), trust: trust.get(), protocols: protocols, minimum: defaults.needsTLS13 ? .tls13 : .tls12,
          options: options))
    } catch {
      return .failure(error as? TLSError ?? .configuration("\(error)"))
    }
  }
}
