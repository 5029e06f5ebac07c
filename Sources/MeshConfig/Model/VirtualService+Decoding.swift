import Primitives
import Telemetry

extension VirtualService: FieldDecodable {
  init(_ fields: inout Fields) {
    hosts = fields.strings("hosts")
    gateways = fields.strings("gateways")
    http = fields.list("http")
    tls = fields.list("tls")
    tcp = fields.list("tcp")
    exportTo = fields.strings("exportTo")
  }
}

extension VirtualService.HTTPRoute: FieldDecodable {
  init(_ fields: inout Fields) {
    name = fields.string("name") ?? ""
    match = fields.list("match")
    route = fields.list("route")
    redirect = fields.object("redirect")
    directResponse = fields.object("directResponse")
    delegate = fields.object("delegate")
    rewrite = fields.object("rewrite")
    timeout = fields.duration("timeout", min: .zero)
    retries = fields.object("retries")
    fault = fields.object("fault")
    mirrors = Self.mirrors(&fields)
    corsPolicy = fields.object("corsPolicy")
    headers = fields.object("headers") ?? .none
  }

  /// `mirrors`, or `mirror` with `mirrorPercentage` or one of its two older spellings.
  private static func mirrors(_ fields: inout Fields) -> [VirtualService.Mirror] {
    let list: [VirtualService.Mirror] = fields.list("mirrors")
    let single: VirtualService.Destination? = fields.object("mirror")
    let percentage: Percentage? = fields.object("mirrorPercentage")
    let camel = fields.int("mirrorPercent", in: 0...100)
    let snake = fields.int("mirror_percent", in: 0...100)
    if camel != nil && snake != nil {
      fields.error("mirror_percent", "mirrorPercent is written in both of its spellings")
    }
    if camel != nil { fields.report.deprecated(fields.path / "mirrorPercent", use: "mirrorPercentage") }
    if snake != nil { fields.report.deprecated(fields.path / "mirror_percent", use: "mirrorPercentage") }
    guard let single else { return list }
    if !list.isEmpty {
      fields.error("mirror", "mirror and mirrors exclude each other", hint: "use mirrors alone")
      return list
    }
    let older = (camel ?? snake).map(Double.init)
    return [VirtualService.Mirror(destination: single, percentage: percentage?.value ?? older ?? 100)]
  }
}

/// `{value: 12.5}`: 0, or 0.0001–100.
struct Percentage: FieldDecodable {
  var value: Double
  init(_ fields: inout Fields) {
    value = fields.number("value", in: 0...100) ?? 0
    if value > 0 && value < 0.0001 { fields.error("value", "\(value) is too small: must be 0 or 0.0001–100") }
  }
}

extension VirtualService.HTTPMatch: FieldDecodable {
  init(_ fields: inout Fields) {
    name = fields.string("name") ?? ""
    uri = fields.object("uri")
    ignoreURICase = fields.bool("ignoreUriCase") ?? false
    scheme = fields.object("scheme")
    method = fields.object("method")
    authority = fields.object("authority")
    headers = fields.map("headers")
    withoutHeaders = fields.map("withoutHeaders")
    queryParams = fields.map("queryParams")
    port = fields.port("port")
    sourceLabels = fields.stringMap("sourceLabels")
    sourceNamespace = fields.string("sourceNamespace") ?? ""
    gateways = fields.strings("gateways")
    if fields.has("statPrefix") {
      fields.report.notEnforced(fields.path / "statPrefix", "metrics have Istio's standard names")
    }
  }
}

extension VirtualService.TextMatch: FieldDecodable {
  init(_ fields: inout Fields) {
    let exact = fields.string("exact")
    let prefix = fields.string("prefix")
    let regex = fields.string("regex")
    if [exact, prefix, regex].count(where: { $0 != nil }) > 1 {
      fields.error("", "more than one of exact, prefix and regex", hint: "write one match for each")
    }
    if let exact {
      self = .exact(exact)
    } else if let prefix {
      self = .prefix(prefix)
    } else if let regex {
      // Istio reads the regex `*` as "present" where presence can be asked for; it is no valid RE2 expression.
      self = regex == "*" ? .present : .regex(regex)
      if regex != "*" { fields.checkPattern("regex", regex) }
    } else {
      self = .present
    }
  }
}

extension Fields {
  mutating func checkPattern(_ name: String, _ text: String) {
    do throws(PatternError) { _ = try Pattern(text) } catch { self.error(name, error.reason) }
  }
}

extension VirtualService.Destination: FieldDecodable {
  init(_ fields: inout Fields) {
    host = fields.requiredString("host")
    subset = fields.string("subset").flatMap { $0.isEmpty ? nil : $0 }
    port = (fields.object("port") as PortSelector?)?.number
  }
}

/// `{number: 9080}`
struct PortSelector: FieldDecodable {
  var number: UInt16
  init(_ fields: inout Fields) { number = fields.requiredPort("number") }
}

extension VirtualService.HTTPDestination: FieldDecodable {
  init(_ fields: inout Fields) {
    destination = fields.required("destination") ?? .missing
    weight = fields.int("weight", in: 0...Int(Int32.max)) ?? 0
    headers = fields.object("headers") ?? .none
  }
}

extension VirtualService.Destination {
  /// Stands where decoding already failed.
  fileprivate static let missing = VirtualService.Destination(host: "", subset: nil, port: nil)
}

extension VirtualService.Redirect: FieldDecodable {
  init(_ fields: inout Fields) {
    uri = fields.string("uri")
    prefixRewrite = fields.string("prefixRewrite")
    authority = fields.string("authority")
    scheme = fields.string("scheme")
    port = fields.port("port")
    derivePort = fields.name("derivePort")
    let code = fields.int("redirectCode", in: 0...999) ?? 0
    redirectCode = code == 0 ? 301 : code
    if port != nil && derivePort != nil { fields.error("derivePort", "port and derivePort exclude each other") }
  }
}

extension VirtualService.DirectResponse: FieldDecodable {
  init(_ fields: inout Fields) {
    status = fields.requiredInt("status", in: 200...599) ?? 0
    let written: Body? = fields.object("body")
    body = written?.bytes ?? []
    if body.count > ConfigLimits.directResponseBytesMax {
      fields.error("body", "\(body.count) bytes; at most \(ConfigLimits.directResponseBytesMax) are accepted")
    } else if body.count > ConfigLimits.directResponseBytesWarning {
      fields.report.warning(fields.path / "body", "\(body.count) bytes are kept in every node's memory")
    }
  }

  private struct Body: FieldDecodable {
    var bytes: [UInt8]
    init(_ fields: inout Fields) {
      let string = fields.string("string")
      let base64 = fields.string("bytes")
      if string != nil && base64 != nil { fields.error("bytes", "string and bytes exclude each other") }
      bytes = string.map { Array($0.utf8) } ?? []
      guard let base64 else { return }
      guard let decoded = Base64Form.decode(base64) else {
        fields.error("bytes", "not base64")
        return
      }
      bytes = decoded
    }
  }
}

extension VirtualService.Delegate: FieldDecodable {
  init(_ fields: inout Fields) {
    name = fields.requiredString("name")
    namespace = fields.string("namespace") ?? ""
  }
}

extension VirtualService.Rewrite: FieldDecodable {
  init(_ fields: inout Fields) {
    uri = fields.string("uri").flatMap { $0.isEmpty ? nil : $0 }
    authority = fields.string("authority").flatMap { $0.isEmpty ? nil : $0 }
    uriRegexRewrite = fields.object("uriRegexRewrite")
  }
}

extension VirtualService.Rewrite.RegexRewrite: FieldDecodable {
  init(_ fields: inout Fields) {
    match = fields.requiredString("match")
    rewrite = fields.requiredString("rewrite")
    guard !match.isEmpty else { return }
    do throws(PatternError) {
      let pattern = try Pattern(match)
      if let problem = pattern.problem(withSubstitution: Array(rewrite.utf8)) { fields.error("rewrite", problem) }
    } catch { fields.error("match", error.reason) }
  }
}

extension VirtualService.Retries: FieldDecodable {
  init(_ fields: inout Fields) {
    attempts = fields.int("attempts", in: Int(Int32.min)...Int(Int32.max)) ?? 0
    perTryTimeout = fields.duration("perTryTimeout", min: .zero)
    retryOn = fields.string("retryOn").flatMap { $0.isEmpty ? nil : $0 }
    let written = fields.bool("retryRemoteLocalities")
    retryRemoteLocalities = written ?? false
    writesRemoteLocalities = written != nil
    retryIgnorePreviousHosts = fields.bool("retryIgnorePreviousHosts") ?? true
    backoff = fields.duration("backoff")
  }
}

extension VirtualService.Fault: FieldDecodable {
  init(_ fields: inout Fields) {
    delay = fields.object("delay")
    abort = fields.object("abort")
  }
}

extension VirtualService.Fault.Delay: FieldDecodable {
  init(_ fields: inout Fields) {
    fixedDelay = fields.duration("fixedDelay")
    let percentage: Percentage? = fields.object("percentage")
    let older = fields.int("percent", in: 0...100)
    self.percentage = percentage?.value ?? older.map(Double.init) ?? 0
    if older != nil { fields.report.deprecated(fields.path / "percent", use: "percentage") }
    if fields.has("exponentialDelay") {
      fields.error("exponentialDelay", "not supported", hint: "use fixedDelay")
    } else if fixedDelay == nil && !fields.has("fixedDelay") {
      fields.error("fixedDelay", "required")
    }
  }
}

extension VirtualService.Fault.Abort: FieldDecodable {
  init(_ fields: inout Fields) {
    httpStatus = fields.int("httpStatus", in: 200...600)
    grpcStatus = fields.string("grpcStatus")
    let percentage: Percentage? = fields.object("percentage")
    self.percentage = percentage?.value ?? 0
    if fields.has("http2Error") {
      fields.error("http2Error", "not supported", hint: "use httpStatus or grpcStatus")
    } else if fields.has("httpStatus") && grpcStatus != nil {
      fields.error("grpcStatus", "httpStatus and grpcStatus exclude each other")
    } else if !fields.has("httpStatus") && grpcStatus == nil {
      fields.report.warning(fields.path, "the abort has no httpStatus or grpcStatus, so it does nothing")
    }
    if let grpcStatus, GRPCStatusNames.code(of: grpcStatus) == nil {
      let hint = Spelling.nearest(to: grpcStatus, among: GRPCStatusNames.all).map { "did you mean '\($0)'?" }
      fields.error("grpcStatus", "'\(grpcStatus.prefix(40))' is not a gRPC status", hint: hint)
    }
  }
}

/// Canonical names of gRPC status codes; the index is the code.
enum GRPCStatusNames {
  static let all = GRPCStatusForm.snakeNames
  static func code(of name: String) -> UInt8? { all.firstIndex(of: name).map { UInt8(truncatingIfNeeded: $0) } }
}

extension VirtualService.Mirror: FieldDecodable {
  init(_ fields: inout Fields) {
    destination = fields.required("destination") ?? .missing
    let percentage: Percentage? = fields.object("percentage")
    self.percentage = percentage?.value ?? 100
  }
}

extension VirtualService.CORS: FieldDecodable {
  init(_ fields: inout Fields) {
    let older = fields.strings("allowOrigin")
    if !older.isEmpty { fields.report.deprecated(fields.path / "allowOrigin", use: "allowOrigins") }
    let origins: [VirtualService.TextMatch] = fields.list("allowOrigins")
    allowOrigins = origins.isEmpty ? older.map { $0 == "*" ? .present : .exact($0) } : origins
    allowMethods = fields.strings("allowMethods")
    allowHeaders = fields.strings("allowHeaders")
    exposeHeaders = fields.strings("exposeHeaders")
    maxAge = fields.duration("maxAge")
    allowCredentials = fields.bool("allowCredentials")
    unmatchedPreflights = fields.name("unmatchedPreflights") ?? .unspecified
  }
}

extension VirtualService.Headers: FieldDecodable {
  static let none = VirtualService.Headers(request: .none, response: .none)
  init(_ fields: inout Fields) {
    request = fields.object("request") ?? .none
    response = fields.object("response") ?? .none
  }
}

extension VirtualService.Headers.Operations: FieldDecodable {
  static let none = Self(set: [:], add: [:], remove: [])
  init(_ fields: inout Fields) {
    set = fields.stringMap("set")
    add = fields.stringMap("add")
    remove = fields.strings("remove")
  }
}

extension VirtualService.TLSRoute: FieldDecodable {
  init(_ fields: inout Fields) {
    match = fields.list("match")
    route = fields.list("route")
  }
}

extension VirtualService.TLSMatch: FieldDecodable {
  init(_ fields: inout Fields) {
    sniHosts = fields.strings("sniHosts")
    conditions = VirtualService.ConnectionConditions(shared: &fields)
  }
}

extension VirtualService.TCPRoute: FieldDecodable {
  init(_ fields: inout Fields) {
    match = fields.list("match")
    route = fields.list("route")
  }
}

extension VirtualService.ConnectionConditions: FieldDecodable {
  init(_ fields: inout Fields) {
    self.init(shared: &fields)
    if fields.has("sourceSubnet") { fields.report.notEnforced(fields.path / "sourceSubnet", "it does not restrict the match") }
  }

  fileprivate init(shared fields: inout Fields) {
    destinationSubnets = fields.strings("destinationSubnets")
    port = fields.port("port")
    sourceLabels = fields.stringMap("sourceLabels")
    sourceNamespace = fields.string("sourceNamespace") ?? ""
    gateways = fields.strings("gateways")
  }
}

extension VirtualService.WeightedDestination: FieldDecodable {
  init(_ fields: inout Fields) {
    destination = fields.required("destination") ?? .missing
    weight = fields.int("weight", in: 0...Int(Int32.max)) ?? 0
  }
}
