/// Rules for requests from outside (`networking.k8s.io` Ingress), as Istio's ingress controller follows them.
public struct Ingress: Hashable, Sendable {
  /// By annotation, or as written in the spec; nil: it names none.
  public var className: String?
  public var defaultBackend: Backend?
  public var tls: [TLS]
  public var rules: [Rule]

  public struct TLS: Hashable, Sendable {
    public var hosts: [String]
    public var secretName: String?
  }

  public struct Rule: Hashable, Sendable {
    /// Empty: every host.
    public var host: String
    public var paths: [Path]
  }

  public struct Path: Hashable, Sendable {
    public var path: String
    public var type: PathType
    public var backend: Backend?
  }

  public enum PathType: String, CaseIterable, Hashable, Sendable {
    case exact = "Exact"
    case prefix = "Prefix"
    case implementationSpecific = "ImplementationSpecific"
  }

  /// A port of a Service in the Ingress's namespace.
  public struct Backend: Hashable, Sendable {
    public var service: String
    public var port: Port
    public enum Port: Hashable, Sendable {
      case number(UInt16)
      case name(String)
    }
  }

  static let classAnnotation = "kubernetes.io/ingress.class"
  /// Istio's class, and the controller that IngressClasses name for it.
  static let istioClass = "istio"
  static let istioController = "istio.io/ingress-controller"
}

/// Who serves the Ingresses of a class (`networking.k8s.io` IngressClass).
public struct IngressClass: Hashable, Sendable {
  public var controller: String
}

/// The fields of an Ingress beside its metadata, one annotation of which says what else its spec may say.
struct IngressFields: FieldDecodable {
  let value: Ingress

  init(_ fields: inout Fields) {
    let annotated = (fields.object("metadata") as Metadata?)?.ingressClass
    if !fields.has("spec") { fields.error("spec", "required") }
    var spec: Ingress = fields.object("spec") ?? Ingress(className: nil, defaultBackend: nil, tls: [], rules: [])
    if let annotated { spec.className = annotated }
    value = spec
    fields.ignore("apiVersion", "kind", "status")
  }

  private struct Metadata: FieldDecodable {
    let ingressClass: String?
    init(_ fields: inout Fields) {
      ingressClass = fields.stringMap("annotations")[Ingress.classAnnotation]
      fields.ignoreOthers()
    }
  }
}

extension Ingress: FieldDecodable {
  init(_ fields: inout Fields) {
    className = fields.text("ingressClassName")
    defaultBackend = (fields.object("defaultBackend") as BackendFields?)?.value
    tls = fields.list("tls")
    rules = fields.list("rules")
    if rules.isEmpty && defaultBackend == nil && !fields.report.hasErrors {
      fields.error("rules", "an Ingress needs rules or a defaultBackend")
    }
  }
}

extension Ingress.TLS: FieldDecodable {
  init(_ fields: inout Fields) {
    hosts = fields.strings("hosts")
    secretName = fields.text("secretName")
    for host in hosts where !NameForm.isWildcardHost(host) || host == "*" {
      fields.error("hosts", "'\(host.prefix(80))' is not a host name")
    }
  }
}

extension Ingress.Rule: FieldDecodable {
  init(_ fields: inout Fields) {
    host = (fields.text("host") ?? "").lowercased()
    paths = (fields.object("http") as HTTP?)?.paths ?? []
    if AddressForm.isAddress(host) {
      fields.error("host", "must be a DNS name, not an IP address")
    } else if !host.isEmpty, host == "*" || !NameForm.isWildcardHost(host) {
      fields.error("host", "'\(host.prefix(80))' is not a host name", hint: "leave it out for every host")
    }
  }

  private struct HTTP: FieldDecodable {
    let paths: [Ingress.Path]
    init(_ fields: inout Fields) {
      paths = fields.list("paths")
      if paths.isEmpty && !fields.report.hasErrors { fields.error("paths", "required") }
    }
  }
}

extension Ingress.Path: FieldDecodable {
  init(_ fields: inout Fields) {
    path = fields.text("path") ?? ""
    if !fields.has("pathType") { fields.error("pathType", "required", hint: "write Prefix, Exact or ImplementationSpecific") }
    type = fields.name("pathType") ?? .implementationSpecific
    backend = (fields.required("backend") as Ingress.BackendFields?)?.value
    if type != .implementationSpecific {
      if !path.hasPrefix("/") { fields.error("path", "must be an absolute path") }
      for part in ["//", "/./", "/../", "%2f", "%2F"] where path.contains(part) {
        fields.error("path", "must not contain '\(part)'")
      }
    }
  }
}

extension Ingress {
  fileprivate struct BackendFields: FieldDecodable {
    let value: Backend?
    init(_ fields: inout Fields) {
      let service: Service? = fields.object("service")
      value = service?.value
      if fields.has("resource") {
        fields.report.notEnforced(fields.path / "resource", "only Services are sent requests: those of this path get 404")
        if service != nil { fields.error("", "service and resource exclude each other") }
      } else if service == nil {
        fields.error("service", "required")
      }
    }
  }

  private struct Service: FieldDecodable {
    let value: Backend?
    init(_ fields: inout Fields) {
      let name = fields.requiredString("name")
      let port: Port? = fields.required("port")
      value = port?.value.map { Backend(service: name, port: $0) }
    }
  }

  private struct Port: FieldDecodable {
    let value: Backend.Port?
    init(_ fields: inout Fields) {
      let number = fields.port("number")
      let name = fields.text("name")
      value = number.map { .number($0) } ?? name.map { .name($0) }
      if (number == nil) == (name == nil) && !fields.report.hasErrors { fields.error("", "write either number or name") }
    }
  }
}

extension IngressClass: FieldDecodable {
  init(_ fields: inout Fields) {
    controller = fields.requiredString("controller")
    fields.ignore("parameters")
  }
}
