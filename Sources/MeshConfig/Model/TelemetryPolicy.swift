/// What is measured, logged and traced (`telemetry.istio.io` Telemetry).
public struct TelemetryPolicy: Hashable, Sendable {
  public var target: PolicyTarget
  public var tracing: [Tracing]
  public var metrics: [Metrics]
  public var accessLogging: [AccessLogging]

  public enum Mode: String, CaseIterable, Hashable, Sendable {
    case clientAndServer = "CLIENT_AND_SERVER"
    case client = "CLIENT"
    case server = "SERVER"
  }

  public struct Tracing: Hashable, Sendable {
    public var mode: Mode
    public var providers: [String]
    /// 0–100; nil: not written here.
    public var randomSamplingPercentage: Double?
    public var disableSpanReporting: Bool?
    public var disableContextPropagation: Bool?
    public var enableIstioTags: Bool?
    public var useRequestIDForSampling: Bool?
    public var customTags: [Keyed<CustomTag>]
  }
  public enum CustomTag: Hashable, Sendable {
    case literal(String)
    case environment(name: String, defaultValue: String)
    case header(name: String, defaultValue: String)
    case formatter(String)
  }

  public struct Metrics: Hashable, Sendable {
    public var providers: [String]
    public var overrides: [Override]
    public var reportingInterval: Duration?
  }
  public struct Override: Hashable, Sendable {
    public var metric: Metric?
    public var customMetric: String?
    public var mode: Mode
    public var disabled: Bool?
    /// nil removes the tag.
    public var tags: [Keyed<TagOverride>]
  }
  public struct TagOverride: Hashable, Sendable {
    /// nil: the tag is removed.
    public var value: String?
  }
  public enum Metric: String, CaseIterable, Hashable, Sendable {
    case allMetrics = "ALL_METRICS"
    case requestCount = "REQUEST_COUNT"
    case requestDuration = "REQUEST_DURATION"
    case requestSize = "REQUEST_SIZE"
    case responseSize = "RESPONSE_SIZE"
    case tcpOpenedConnections = "TCP_OPENED_CONNECTIONS"
    case tcpClosedConnections = "TCP_CLOSED_CONNECTIONS"
    case tcpSentBytes = "TCP_SENT_BYTES"
    case tcpReceivedBytes = "TCP_RECEIVED_BYTES"
    case grpcRequestMessages = "GRPC_REQUEST_MESSAGES"
    case grpcResponseMessages = "GRPC_RESPONSE_MESSAGES"
  }

  public struct AccessLogging: Hashable, Sendable {
    public var mode: Mode
    public var providers: [String]
    public var disabled: Bool?
    /// CEL over `request.*`, `response.*` and `connection.*`.
    public var filter: String?
  }
}

extension TelemetryPolicy: FieldDecodable {
  init(_ fields: inout Fields) {
    target = PolicyTarget(&fields)
    tracing = fields.list("tracing")
    metrics = fields.list("metrics")
    accessLogging = fields.list("accessLogging")
    if tracing.count > 1 { fields.report.warning(fields.path / "tracing", "only the first of several entries is used") }
  }

  fileprivate struct Provider: FieldDecodable {
    let name: String
    init(_ fields: inout Fields) { name = fields.requiredString("name") }
  }
  fileprivate struct ModeMatch: FieldDecodable {
    let mode: Mode?
    init(_ fields: inout Fields) { mode = fields.name("mode") }
  }

  fileprivate static func providers(_ fields: inout Fields) -> [String] {
    (fields.list("providers") as [Provider]).map(\.name)
  }
  fileprivate static func mode(_ fields: inout Fields) -> Mode {
    (fields.object("match") as ModeMatch?)?.mode ?? .clientAndServer
  }
}

extension TelemetryPolicy.Tracing: FieldDecodable {
  init(_ fields: inout Fields) {
    mode = TelemetryPolicy.mode(&fields)
    providers = TelemetryPolicy.providers(&fields)
    randomSamplingPercentage = fields.number("randomSamplingPercentage", in: 0...100)
    disableSpanReporting = fields.bool("disableSpanReporting")
    disableContextPropagation = fields.bool("disableContextPropagation")
    enableIstioTags = fields.bool("enableIstioTags")
    useRequestIDForSampling = fields.bool("useRequestIdForTraceSampling")
    let tags: [Keyed<Tag>] = fields.map("customTags")
    if tags.contains(where: \.key.isEmpty) { fields.error("customTags", "a tag needs a name") }
    customTags = tags.compactMap { tag in tag.value.tag.map { Keyed(key: tag.key, value: $0) } }
    if providers.count > 1 {
      fields.report.warning(fields.path / "providers", "only the first of several tracing providers is used")
    }
  }

  private struct Tag: FieldDecodable {
    var tag: TelemetryPolicy.CustomTag?
    init(_ fields: inout Fields) {
      let literal: Value? = fields.object("literal")
      let formatter: Value? = fields.object("formatter")
      let environment: Named? = fields.object("environment")
      let header: Named? = fields.object("header")
      let all: [TelemetryPolicy.CustomTag?] = [
        literal.map { .literal($0.value) }, formatter.map { .formatter($0.value) },
        environment.map { .environment(name: $0.name, defaultValue: $0.defaultValue) },
        header.map { .header(name: $0.name, defaultValue: $0.defaultValue) },
      ]
      let written = all.compactMap { $0 }
      tag = written.first
      if written.count > 1 {
        fields.error("", "a tag is one of literal, environment, header and formatter")
      } else if written.isEmpty && !fields.report.hasErrors {
        fields.error("", "a tag needs literal, environment, header or formatter")
      }
    }
  }
  private struct Value: FieldDecodable {
    let value: String
    init(_ fields: inout Fields) { value = fields.requiredString("value") }
  }
  private struct Named: FieldDecodable {
    let name: String
    let defaultValue: String
    init(_ fields: inout Fields) {
      name = fields.requiredString("name")
      defaultValue = fields.string("defaultValue") ?? ""
    }
  }
}

extension TelemetryPolicy.Metrics: FieldDecodable {
  init(_ fields: inout Fields) {
    providers = TelemetryPolicy.providers(&fields)
    overrides = fields.list("overrides")
    reportingInterval = fields.duration("reportingInterval")
  }
}

extension TelemetryPolicy.Override: FieldDecodable {
  init(_ fields: inout Fields) {
    let match: Match? = fields.object("match")
    metric = match?.metric
    customMetric = match?.customMetric
    mode = match?.mode ?? .clientAndServer
    disabled = fields.bool("disabled")
    tags = fields.map("tagOverrides")
  }

  private struct Match: FieldDecodable {
    let metric: TelemetryPolicy.Metric?
    let customMetric: String?
    let mode: TelemetryPolicy.Mode?
    init(_ fields: inout Fields) {
      metric = fields.name("metric")
      customMetric = fields.filledString("customMetric")
      mode = fields.name("mode")
      if metric != nil && customMetric != nil { fields.error("customMetric", "only one of metric and customMetric can be set") }
    }
  }
}

extension TelemetryPolicy.TagOverride: FieldDecodable {
  private enum Operation: String, CaseIterable {
    case upsert = "UPSERT"
    case remove = "REMOVE"
  }
  init(_ fields: inout Fields) {
    let operation: Operation = fields.name("operation") ?? .upsert
    let written = fields.text("value")
    value = operation == .upsert ? written ?? "" : nil
    if fields.report.hasErrors { return }
    if operation == .upsert && written == nil { fields.error("value", "value must be set when operation is UPSERT") }
    if operation == .remove && written != nil { fields.error("value", "value must not be set when operation is REMOVE") }
  }
}

extension TelemetryPolicy.AccessLogging: FieldDecodable {
  init(_ fields: inout Fields) {
    mode = TelemetryPolicy.mode(&fields)
    providers = TelemetryPolicy.providers(&fields)
    disabled = fields.bool("disabled")
    filter = (fields.object("filter") as Filter?)?.expression
  }
  private struct Filter: FieldDecodable {
    let expression: String
    init(_ fields: inout Fields) { expression = fields.string("expression") ?? "" }
  }
}
