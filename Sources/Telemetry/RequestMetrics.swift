import Primitives

/// Istio's standard metrics of one worker: written by that worker's thread alone, and read through a copy it hands out.
///
/// `flow(_:)` resolves labels once; `record` then costs one probe of an integer table and a few plain adds.
public struct RequestMetrics: Sendable {
  /// `istio_request_duration_milliseconds`, `istio_request_bytes` and `istio_response_bytes` share these bounds.
  private static let shownBounds: [Double] = [
    0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300_000, 600_000, 1_800_000, 3_600_000,
  ]
  /// Observed in nanoseconds, shown in milliseconds.
  public static let durationScale = HistogramScale(shownBounds: shownBounds, unitsPerShown: 1_000_000)
  /// Observed in bytes. The first bound, half a byte, holds empty messages only.
  public static let bytesScale = HistogramScale(shownBounds: shownBounds)

  private static let buckets = shownBounds.count + 1
  private static let histogramCells = buckets + 1
  /// Cells of an HTTP series: count, three histograms, two message counts.
  private static let messagesAt = 1 + 3 * histogramCells
  private static let httpCells = messagesAt + 2
  private static let tcpCells = 4

  private struct Series: Sendable {
    let flow: UInt32
    let outcome: RequestOutcome
    let cell: Int
  }

  private var flows: [FlowLabels] = []
  private var flowOf: [FlowLabels: UInt32] = [:]
  private var unregisteredServices: Set<String> = []
  private var series: [Series] = []
  private var table = SeriesTable()
  private var cells: [UInt64] = []

  public init() {}

  /// The number of a flow; assigned on first use. Beyond the limits a flow is counted with its names replaced by `other`.
  public mutating func flow(_ labels: FlowLabels) -> FlowID {
    if let known = flowOf[labels] { return FlowID(index: known) }
    var kept = labels
    if !labels.service.isRegistered, !unregisteredServices.contains(labels.service.host) {
      if unregisteredServices.count < TelemetryLimits.unregisteredServicesMax {
        unregisteredServices.insert(labels.service.host)
      } else {
        kept.service.host = "other"
        unregisteredServices.insert("other")
        if let known = flowOf[kept] { return FlowID(index: known) }
      }
    }
    if flows.count >= TelemetryLimits.flowsMax {
      kept = Self.otherFlow(labels.reporter)
      if let known = flowOf[kept] { return FlowID(index: known) }
    }
    let index = UInt32(flows.count)
    flows.append(kept)
    flowOf[kept] = index
    return FlowID(index: index)
  }

  private static func otherFlow(_ reporter: Reporter) -> FlowLabels {
    let workload = WorkloadLabels(workload: "other", namespace: "other")
    let service = ServiceLabels(host: "other", name: "other", namespace: "other")
    return FlowLabels(reporter: reporter, source: workload, destination: workload, service: service)
  }

  /// Counts one finished HTTP or gRPC request. Sizes are bytes on the wire with headers; `duration` runs from the first
  /// request byte to the last response byte.
  public mutating func record(
    _ flow: FlowID, _ outcome: RequestOutcome, duration: Duration, requestBytes: UInt64, responseBytes: UInt64
  ) {
    let cell = cell(of: flow, outcome, width: Self.httpCells)
    let nanoseconds = UInt64(max(0, duration.nanosecondsClamped))
    cells[cell] &+= 1
    observe(nanoseconds, Self.durationScale, at: cell + 1)
    observe(requestBytes, Self.bytesScale, at: cell + 1 + Self.histogramCells)
    observe(responseBytes, Self.bytesScale, at: cell + 1 + 2 * Self.histogramCells)
  }

  /// Adds gRPC messages of a request; may be called while its stream is open.
  public mutating func recordMessages(_ flow: FlowID, _ outcome: RequestOutcome, requests: UInt64, responses: UInt64) {
    let cell = cell(of: flow, outcome, width: Self.httpCells) + Self.messagesAt
    cells[cell] &+= requests
    cells[cell + 1] &+= responses
  }

  /// Counts events of an opaque connection: at its start, every few seconds, and at its end. `sentBytes` go towards the client.
  public mutating func recordTCP(
    _ flow: FlowID, flags: ResponseFlags = [], security: ConnectionSecurity, opened: UInt64 = 0, closed: UInt64 = 0,
    sentBytes: UInt64 = 0, receivedBytes: UInt64 = 0
  ) {
    let outcome = RequestOutcome(requestProtocol: .tcp, responseCode: 0, flags: flags, security: security)
    let cell = cell(of: flow, outcome, width: Self.tcpCells)
    cells[cell] &+= opened
    cells[cell + 1] &+= closed
    cells[cell + 2] &+= sentBytes
    cells[cell + 3] &+= receivedBytes
  }

  private mutating func observe(_ value: UInt64, _ scale: HistogramScale, at cell: Int) {
    cells[cell + scale.bucket(of: value)] &+= 1
    cells[cell + Self.buckets] &+= value
  }

  private mutating func cell(of flow: FlowID, _ outcome: RequestOutcome, width: Int) -> Int {
    let key = Self.key(flow.index, outcome)
    if let index = table.value(for: key) { return series[Int(index)].cell }
    return addSeries(flow, outcome, width: width, key)
  }

  private static func key(_ flow: UInt32, _ outcome: RequestOutcome) -> SeriesTable.Key {
    var packed = UInt64(outcome.responseCode) << 48
    packed |= UInt64(outcome.grpcStatus ?? .max) << 40
    packed |= UInt64(outcome.requestProtocol.rawValue) << 36
    packed |= UInt64(outcome.security.rawValue) << 32
    packed |= UInt64(outcome.flags.rawValue)
    return SeriesTable.Key(flow: UInt64(flow), outcome: packed)
  }

  private mutating func addSeries(_ flow: FlowID, _ outcome: RequestOutcome, width: Int, _ key: SeriesTable.Key) -> Int {
    if series.count >= TelemetryLimits.requestSeriesMax {
      // Beyond the limit a series keeps its reporter and protocol only.
      let reporter = flows[Int(flow.index)].reporter
      let other = otherFlowIndex(reporter)
      let plain = RequestOutcome(requestProtocol: outcome.requestProtocol, responseCode: 0)
      let otherKey = Self.key(other, plain)
      if let index = table.value(for: otherKey) { return series[Int(index)].cell }
      return appendSeries(other, plain, width: width, otherKey)
    }
    return appendSeries(flow.index, outcome, width: width, key)
  }

  private mutating func otherFlowIndex(_ reporter: Reporter) -> UInt32 {
    let labels = Self.otherFlow(reporter)
    if let known = flowOf[labels] { return known }
    let index = UInt32(flows.count)
    flows.append(labels)
    flowOf[labels] = index
    return index
  }

  private mutating func appendSeries(_ flow: UInt32, _ outcome: RequestOutcome, width: Int, _ key: SeriesTable.Key) -> Int {
    let cell = cells.count
    cells.append(contentsOf: repeatElement(0, count: width))
    table.insert(Int32(series.count), for: key)
    series.append(Series(flow: flow, outcome: outcome, cell: cell))
    return cell
  }
}

extension RequestMetrics {
  /// The standard families with this worker's series, ready to be merged with other workers' and written.
  public var snapshot: [MetricFamily] {
    let http = series.filter { $0.outcome.requestProtocol != .tcp }
    let grpc = http.filter { $0.outcome.requestProtocol == .grpc }
    let tcp = series.filter { $0.outcome.requestProtocol == .tcp }
    let messages = Self.messagesAt
    return [
      family("istio_requests_total", "Requests by source, destination and response.", http, at: 0),
      family(
        "istio_request_duration_milliseconds", "Time from the first request byte to the last response byte.", http, at: 1,
        Self.durationScale),
      family(
        "istio_request_bytes", "Bytes of requests with headers.", http, at: 1 + Self.histogramCells, Self.bytesScale),
      family(
        "istio_response_bytes", "Bytes of responses with headers.", http, at: 1 + 2 * Self.histogramCells, Self.bytesScale),
      family("istio_request_messages_total", "gRPC messages from clients.", grpc, at: messages),
      family("istio_response_messages_total", "gRPC messages from servers.", grpc, at: messages + 1),
      family("istio_tcp_connections_opened_total", "Opaque connections opened.", tcp, at: 0),
      family("istio_tcp_connections_closed_total", "Opaque connections closed.", tcp, at: 1),
      family("istio_tcp_sent_bytes_total", "Bytes sent to clients on opaque connections.", tcp, at: 2),
      family("istio_tcp_received_bytes_total", "Bytes received from clients on opaque connections.", tcp, at: 3),
    ]
  }

  private func family(
    _ name: String, _ help: String, _ series: [Series], at offset: Int, _ scale: HistogramScale? = nil
  ) -> MetricFamily {
    let values = series.map { one in
      let cell = one.cell + offset
      let value: MetricValue =
        scale == nil
        ? .number(Double(cells[cell]))
        : .histogram(counts: Array(cells[cell..<(cell + Self.buckets)]), sum: cells[cell + Self.buckets])
      return MetricSeries(labelValues: StandardLabels.values(flows[Int(one.flow)], one.outcome), value: value)
    }
    let isTCP = name.hasPrefix("istio_tcp")
    return MetricFamily(
      name: name, help: help, kind: scale == nil ? .counter : .histogram,
      labelNames: isTCP ? StandardLabels.tcp : StandardLabels.http, scale: scale, series: values)
  }
}
