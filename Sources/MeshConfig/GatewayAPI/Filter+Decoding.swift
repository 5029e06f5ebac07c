extension GatewayAPI.Filter {
  /// `filters`: each type at most once, mirrors excepted.
  static func list(_ fields: inout Fields) -> [Self] {
    let written: [FilterFields] = fields.list("filters")
    var seen: Set<String> = []
    if written.count > 16 { fields.error("filters", "at most 16 filters") }
    for (index, item) in written.enumerated() where item.type != "RequestMirror" && item.type != "ExtensionRef" {
      if !seen.insert(item.type).inserted {
        fields.report.error((fields.path / "filters")[index] / "type", "\(item.type.prefix(40)) filter cannot be repeated")
      }
    }
    return written.compactMap(\.filter)
  }
}

private struct FilterFields: FieldDecodable {
  let type: String
  let filter: GatewayAPI.Filter?

  /// Types and the fields that hold their settings.
  private static let settings: [(type: String, field: String)] = [
    ("RequestHeaderModifier", "requestHeaderModifier"), ("ResponseHeaderModifier", "responseHeaderModifier"),
    ("RequestRedirect", "requestRedirect"), ("URLRewrite", "urlRewrite"), ("RequestMirror", "requestMirror"), ("CORS", "cors"),
    ("ExtensionRef", "extensionRef"), ("ExternalAuth", "externalAuth"),
  ]

  init(_ fields: inout Fields) {
    type = fields.requiredString("type")
    let request: GatewayAPI.HeaderChange? = fields.object("requestHeaderModifier")
    let response: GatewayAPI.HeaderChange? = fields.object("responseHeaderModifier")
    let redirect: GatewayAPI.Redirect? = fields.object("requestRedirect")
    let rewrite: GatewayAPI.Rewrite? = fields.object("urlRewrite")
    let mirror: GatewayAPI.Mirror? = fields.object("requestMirror")
    let cors: GatewayAPI.CORS? = fields.object("cors")
    for (type, field) in Self.settings {
      let isWritten = fields.has(field)
      if isWritten && type != self.type { fields.error(field, "filter.\(field) must be nil if the filter.type is not \(type)") }
      if !isWritten && type == self.type { fields.error(field, "filter.\(field) must be specified for \(type) filter.type") }
    }
    switch type {
    case "RequestHeaderModifier": filter = request.map { .requestHeaders($0) }
    case "ResponseHeaderModifier": filter = response.map { .responseHeaders($0) }
    case "RequestRedirect": filter = redirect.map { .redirect($0) }
    case "URLRewrite": filter = rewrite.map { .rewrite($0) }
    case "RequestMirror": filter = mirror.map { .mirror($0) }
    case "CORS": filter = cors.map { .cors($0) }
    case "ExtensionRef", "ExternalAuth":
      filter = .unsupported(type)
      fields.report.notEnforced(fields.path / "type", "the filter is not known, so that requests of the rule are answered 500")
    case "": filter = nil
    default:
      filter = nil
      let names = Self.settings.map(\.type).joined(separator: ", ")
      fields.error("type", "'\(type.prefix(40))' is not one of \(names)")
    }
  }
}

extension GatewayAPI.HeaderChange: FieldDecodable {
  init(_ fields: inout Fields) {
    set = (fields.list("set") as [FieldFields]).map(\.field)
    add = (fields.list("add") as [FieldFields]).map(\.field)
    remove = fields.strings("remove")
    for (index, name) in remove.enumerated() where !NameForm.isFieldName(name) {
      fields.report.error((fields.path / "remove")[index], "'\(name.prefix(80))' is not a header name")
    }
    for (name, written) in [("set", set), ("add", add)] {
      for (index, field) in written.enumerated() {
        HeaderValueForm.checkOperators(field.value, at: (fields.path / name)[index] / "value", into: &fields.report)
      }
    }
  }
}

extension GatewayAPI.Redirect: FieldDecodable {
  init(_ fields: inout Fields) {
    scheme = fields.text("scheme")
    hostname = fields.text("hostname")
    path = fields.object("path")
    port = fields.port("port")
    status = fields.int("statusCode", in: 300...399) ?? 302
    if let scheme, scheme != "http" && scheme != "https" { fields.error("scheme", "must be http or https") }
    if let hostname, !GatewayAPI.isHostname(hostname) || hostname.hasPrefix("*") {
      fields.error("hostname", "'\(hostname.prefix(80))' is not a host name")
    }
    if ![301, 302, 303, 307, 308].contains(status) { fields.error("statusCode", "must be 301, 302, 303, 307 or 308") }
  }
}

extension GatewayAPI.Rewrite: FieldDecodable {
  init(_ fields: inout Fields) {
    hostname = fields.text("hostname")
    path = fields.object("path")
    if let hostname, !GatewayAPI.isHostname(hostname) || hostname.hasPrefix("*") {
      fields.error("hostname", "'\(hostname.prefix(80))' is not a host name")
    }
  }
}

extension GatewayAPI.PathChange: FieldDecodable {
  private enum Kind: String, CaseIterable {
    case full = "ReplaceFullPath"
    case prefix = "ReplacePrefixMatch"
  }
  init(_ fields: inout Fields) {
    let kind = fields.name("type") as Kind?
    let full = fields.string("replaceFullPath")
    let prefix = fields.string("replacePrefixMatch")
    switch kind {
    case .prefix: self = .prefix(prefix ?? "")
    case .full, nil: self = .full(full ?? "/")
    }
    if fields.report.hasErrors { return }
    if kind == nil { fields.error("type", "required") }
    if kind == .full && full == nil || kind == .prefix && prefix == nil {
      fields.error("type", "needs the path that it names")
    }
    if kind == .full && prefix != nil || kind == .prefix && full != nil {
      fields.error("type", "only one of replaceFullPath and replacePrefixMatch can be set")
    }
    for value in [full, prefix].compactMap({ $0 }) where HeaderValueForm.hasControls(value) || value.utf8.count > 1024 {
      fields.error("type", "a path has at most 1024 bytes and no control characters")
    }
  }
}

extension GatewayAPI.Mirror: FieldDecodable {
  init(_ fields: inout Fields) {
    backend =
      fields.reference("backendRef", kind: "Service") ?? GatewayAPI.ObjectReference(group: "", kind: "Service", name: "")
    let percent = fields.int("percent", in: 0...100)
    let fraction: Fraction? = fields.object("fraction")
    if backend.name.isEmpty && !fields.report.hasErrors { fields.error("backendRef", "required") }
    if percent != nil && fraction != nil { fields.error("percent", "Only one of percent or fraction may be specified") }
    partsPerMillion = fraction?.partsPerMillion ?? UInt32(clamping: (percent ?? 100) * 10_000)
  }

  private struct Fraction: FieldDecodable {
    let partsPerMillion: UInt32
    init(_ fields: inout Fields) {
      let numerator = fields.int("numerator", in: 0...Int(Int32.max)) ?? 0
      let denominator = fields.int("denominator", in: 1...Int(Int32.max)) ?? 100
      if numerator > denominator { fields.error("numerator", "numerator must be less than or equal to denominator") }
      partsPerMillion = UInt32(clamping: min(1_000_000, numerator * 1_000_000 / max(1, denominator)))
    }
  }
}

extension GatewayAPI.CORS: FieldDecodable {
  init(_ fields: inout Fields) {
    origins = fields.strings("allowOrigins")
    methods = fields.strings("allowMethods")
    headers = fields.strings("allowHeaders")
    exposed = fields.strings("exposeHeaders")
    allowsCredentials = fields.bool("allowCredentials") ?? false
    maxAge = .seconds(fields.int("maxAge", in: 1...Int(Int32.max)) ?? 5)
    if origins.count > 1 && origins.contains("*") {
      fields.error("allowOrigins", "AllowOrigins cannot contain '*' alongside other origins")
    }
  }
}
