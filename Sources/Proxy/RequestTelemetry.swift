import HTTPCodec
import MeshConfig
import Primitives
import Telemetry

/// A worker's metrics, with the labels of each flow resolved once per state.
struct RequestTelemetry {
  private struct Key: Hashable {
    var reporter: UInt8
    var isSecure: Bool
    /// Indices into the snapshot; −1 for unknown.
    var source: Int32
    var destination: Int32
    var service: Int32

    /// One of 256 places, by the highest bits of a multiplicative hash (Knuth, volume 3, 6.4).
    var place: Int {
      var sum = UInt32(bitPattern: source) &* 0x9E37_79B1
      sum = (sum ^ UInt32(bitPattern: destination)) &* 0x85EB_CA6B
      sum = (sum ^ UInt32(bitPattern: service) ^ UInt32(reporter) << 24) &* 0xC2B2_AE35
      return Int(sum >> 24)
    }
  }

  private(set) var metrics = RequestMetrics()
  private var flows: [Key: FlowID] = [:]
  /// The flows that were counted last, each in its key's place: most requests find theirs without hashing by the table.
  private var recent = [(key: Key, flow: FlowID)?](repeating: nil, count: 256)
  private var generation: UInt64 = 0

  /// Forgets what was resolved by index: another state has other indices. Counts stay.
  mutating func install(_ state: ServingState) {
    generation = state.generation
    flows.removeAll(keepingCapacity: true)
    recent = Array(repeating: nil, count: recent.count)
  }

  /// Counts one finished request on one side.
  mutating func record(_ hop: Hop, _ state: ServingState, _ finished: FinishedRequest) {
    let flow = flow(hop, state)
    let security: ConnectionSecurity =
      hop.reporter == .source ? .unknown : hop.isSecure ? .mutualTLS : .none
    let outcome = RequestOutcome(
      requestProtocol: finished.isGRPC ? .grpc : .http, responseCode: finished.status, grpcStatus: finished.grpcStatus,
      flags: finished.flags, security: security)
    metrics.record(
      flow, outcome, duration: finished.duration, requestBytes: finished.requestBytes, responseBytes: finished.responseBytes)
    if finished.isGRPC {
      metrics.recordMessages(flow, outcome, requests: finished.requestMessages, responses: finished.responseMessages)
    }
  }

  /// Counts events of an opaque connection on one side.
  mutating func record(_ hop: Hop, _ state: ServingState, _ events: TCPEvents) {
    let security: ConnectionSecurity = hop.reporter == .source ? .unknown : hop.isSecure ? .mutualTLS : .none
    metrics.recordTCP(
      flow(hop, state), flags: events.flags, security: security, opened: events.opened, closed: events.closed,
      sentBytes: events.sent, receivedBytes: events.received)
  }

  private mutating func flow(_ hop: Hop, _ state: ServingState) -> FlowID {
    // A request that began on an older state, or for a host only the client knows, is resolved by its names.
    guard state.generation == generation, hop.unregisteredHost == nil else { return metrics.flow(labels(hop, state)) }
    let key = Key(
      reporter: hop.reporter.rawValue, isSecure: hop.isSecure, source: Int32(truncatingIfNeeded: hop.source ?? -1),
      destination: Int32(truncatingIfNeeded: hop.destination ?? -1), service: Int32(truncatingIfNeeded: hop.service ?? -1))
    let place = key.place
    if let last = recent[place], last.key == key { return last.flow }
    let flow = flows[key] ?? metrics.flow(labels(hop, state))
    flows[key] = flow
    recent[place] = (key, flow)
    return flow
  }

  private func labels(_ hop: Hop, _ state: ServingState) -> FlowLabels {
    let snapshot = state.snapshot
    var service = ServiceLabels.unknown
    if let index = hop.service, snapshot.services.indices.contains(index) {
      let found = snapshot.services[index]
      service = ServiceLabels(host: found.host, name: found.name, namespace: found.namespace)
    } else if let host = hop.unregisteredHost {
      service = ServiceLabels(host: host, name: hop.unregisteredName, namespace: "", isRegistered: false)
    }
    return FlowLabels(
      reporter: hop.reporter, source: workload(hop.source, hop, snapshot, fallback: hop.sourcePrincipal),
      destination: workload(hop.destination, hop, snapshot, fallback: nil), service: service)
  }

  private func workload(
    _ index: WorkloadIndex?, _ hop: Hop, _ snapshot: MeshSnapshot, fallback principal: SPIFFEID?
  ) -> WorkloadLabels {
    guard let index, snapshot.workloads.indices.contains(index) else {
      guard let principal else { return .unknown }
      return WorkloadLabels(
        workload: "", namespace: principal.workload?.namespace ?? "", principal: principal.description)
    }
    let facts = snapshot.workloads[index]
    return WorkloadLabels(
      workload: facts.name, namespace: facts.namespace, principal: hop.isSecure ? facts.principal : "", app: facts.app,
      version: facts.version, canonicalService: facts.canonicalService, canonicalRevision: facts.canonicalRevision,
      cluster: snapshot.settings.cluster)
  }
}

/// Who called whom, seen from one side.
struct Hop {
  var reporter: Reporter
  /// Identities of both ends are certain: mTLS, or both on this node.
  var isSecure: Bool
  var source: WorkloadIndex?
  /// What the peer's certificate says, where the workload itself is not known.
  var sourcePrincipal: SPIFFEID?
  var destination: WorkloadIndex?
  var service: Int?
  var unregisteredHost: String?
  var unregisteredName = "PassthroughCluster"
}

/// What happened on an opaque connection since its last report.
struct TCPEvents {
  var flags: ResponseFlags
  var opened: UInt64
  var closed: UInt64
  /// Bytes towards the client.
  var sent: UInt64
  /// Bytes from it.
  var received: UInt64
}

/// The numbers of a finished request that metrics count.
struct FinishedRequest {
  var status: UInt16
  var isGRPC: Bool
  var grpcStatus: UInt8?
  var flags: ResponseFlags
  var duration: Duration
  /// On the wire, heads included.
  var requestBytes: UInt64
  var responseBytes: UInt64
  /// Of gRPC.
  var requestMessages: UInt64
  var responseMessages: UInt64
}
