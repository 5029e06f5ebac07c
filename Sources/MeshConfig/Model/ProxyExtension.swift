/// A WebAssembly module or script for proxies (`extensions.istio.io` WasmPlugin and TrafficExtension). Nothing runs it here, so
/// what matters is whether its absence may be passed over.
public struct ProxyExtension: Hashable, Sendable {
  public var target: PolicyTarget
  public var phase: Phase
  public var failsOpen: Bool

  public enum Phase: String, CaseIterable, Hashable, Sendable {
    case unspecifiedPhase = "UNSPECIFIED_PHASE"
    case unspecified = "UNSPECIFIED"
    case authentication = "AUTHN"
    case authorization = "AUTHZ"
    case stats = "STATS"
  }

  /// An authentication or authorization step that is left out would let requests pass that it is there to stop.
  public var guardsRequests: Bool { (phase == .authentication || phase == .authorization) && !failsOpen }
}

/// `WasmPlugin`.
struct WasmPluginFields: FieldDecodable {
  let value: ProxyExtension
  init(_ fields: inout Fields) {
    let target = PolicyTarget(&fields)
    let module = WasmModule(&fields)
    value = ProxyExtension(
      target: target, phase: ExtensionFields.placement(&fields), failsOpen: module.failsOpen)
  }
}

/// `TrafficExtension`.
struct ExtensionFields: FieldDecodable {
  let value: ProxyExtension
  init(_ fields: inout Fields) {
    let target = PolicyTarget(&fields)
    let module: WasmModule? = fields.object("wasm")
    let script: Script? = fields.object("lua")
    if (module == nil) == (script == nil), !fields.report.hasErrors {
      fields.error("wasm", "exactly one of wasm and lua is required")
    }
    value = ProxyExtension(target: target, phase: Self.placement(&fields), failsOpen: module?.failsOpen ?? false)
  }

  /// `phase`, `priority` and `match`.
  fileprivate static func placement(_ fields: inout Fields) -> ProxyExtension.Phase {
    _ = fields.int("priority", in: Int(Int32.min)...Int(Int32.max))
    _ = fields.list("match") as [Match]
    return fields.name("phase") ?? .unspecified
  }

  private struct Script: FieldDecodable {
    init(_ fields: inout Fields) {
      if fields.requiredString("inlineCode").utf8.count > 65_536 { fields.error("inlineCode", "at most 65536 bytes") }
    }
  }
  private struct Match: FieldDecodable {
    private enum Mode: String, CaseIterable {
      case undefined = "UNDEFINED"
      case client = "CLIENT"
      case server = "SERVER"
      case clientAndServer = "CLIENT_AND_SERVER"
    }
    init(_ fields: inout Fields) {
      _ = fields.name("mode") as Mode?
      _ = fields.list("ports") as [Port]
    }
  }
  private struct Port: FieldDecodable {
    init(_ fields: inout Fields) { _ = fields.requiredPort("number") }
  }
}

/// Where a module comes from and how it is configured.
private struct WasmModule: FieldDecodable {
  let failsOpen: Bool

  private enum Failure: String, CaseIterable {
    case closed = "FAIL_CLOSE"
    case open = "FAIL_OPEN"
    case reload = "FAIL_RELOAD"
  }
  private enum PullPolicy: String, CaseIterable {
    case unspecified = "UNSPECIFIED_POLICY"
    case ifNotPresent = "IfNotPresent"
    case always = "Always"
  }
  private enum Filter: String, CaseIterable {
    case unspecified = "UNSPECIFIED_PLUGIN_TYPE"
    case http = "HTTP"
    case network = "NETWORK"
  }

  init(_ fields: inout Fields) {
    failsOpen = (fields.name("failStrategy") as Failure?) == .open
    _ = fields.name("imagePullPolicy") as PullPolicy?
    for (name, maximum) in [("imagePullSecret", 253), ("pluginName", 256)] {
      if let text = fields.filledString(name), text.utf8.count > maximum { fields.error(name, "at most \(maximum) bytes") }
    }
    _ = fields.string("verificationKey")
    _ = fields.name("type") as Filter?
    fields.ignore("pluginConfig")
    _ = fields.object("vmConfig") as Machine?
    let url = fields.requiredString("url")
    let scheme = url.utf8.contains(0x3A) ? String(url.prefix { $0 != ":" }) : ""
    if url.dropFirst(scheme.count).hasPrefix("://"), !["http", "https", "file", "oci"].contains(scheme) {
      fields.error("url", "the scheme '\(scheme.prefix(40))' is not http, https, file or oci")
    }
    if let digest = fields.text("sha256") {
      let isHexadecimal = digest.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
      if digest.utf8.count != 64 || !isHexadecimal { fields.error("sha256", "must be 64 lower-case hexadecimal digits") }
    }
  }

  private struct Machine: FieldDecodable {
    init(_ fields: inout Fields) {
      let variables: [Variable] = fields.list("env")
      if variables.count > 256 { fields.error("env", "at most 256 variables") }
      for (index, variable) in variables.enumerated() where variables[..<index].contains(where: { $0.name == variable.name }) {
        fields.error("env", "the variable '\(variable.name.prefix(80))' stands twice")
      }
    }
  }
  private struct Variable: FieldDecodable {
    private enum Origin: String, CaseIterable {
      case inline = "INLINE"
      case host = "HOST"
    }
    let name: String
    init(_ fields: inout Fields) {
      name = fields.requiredString("name")
      if name.utf8.count > 256 { fields.error("name", "at most 256 bytes") }
      let value = fields.string("value")
      if (value?.utf8.count ?? 0) > 2048 { fields.error("value", "at most 2048 bytes") }
      if (fields.name("valueFrom") as Origin?) == .host && value != nil {
        fields.error("value", "value must not be set with valueFrom HOST")
      }
    }
  }
}
