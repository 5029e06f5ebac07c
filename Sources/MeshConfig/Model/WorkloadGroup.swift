/// A template for workloads that register themselves (`networking.istio.io` WorkloadGroup).
public struct WorkloadGroup: Hashable, Sendable {
  public var labels: [String: String]
  public var annotations: [String: String]
  public var template: WorkloadEntry
  public var probe: Probe?

  public struct Probe: Hashable, Sendable {
    public var initialDelay: Duration
    public var timeout: Duration
    public var period: Duration
    public var successThreshold: Int
    public var failureThreshold: Int
    public var check: Check
  }
  public enum Check: Hashable, Sendable {
    case http(path: String, port: UInt16, host: String, isHTTPS: Bool, headers: [Header])
    case tcp(host: String, port: UInt16)
    case command([String])
    case grpc(port: UInt16, service: String)
  }
  public struct Header: Hashable, Sendable {
    public var name: String
    public var value: String
  }
}

extension WorkloadGroup: FieldDecodable {
  init(_ fields: inout Fields) {
    let metadata: Metadata? = fields.object("metadata")
    labels = metadata?.labels ?? [:]
    annotations = metadata?.annotations ?? [:]
    template = (fields.required("template") as Template?)?.entry ?? WorkloadEntry.empty
    probe = fields.object("probe")
  }

  private struct Metadata: FieldDecodable {
    let labels: [String: String]
    let annotations: [String: String]
    init(_ fields: inout Fields) {
      labels = fields.stringMap("labels")
      annotations = fields.stringMap("annotations")
    }
  }
  /// A WorkloadEntry whose address each workload brings.
  private struct Template: FieldDecodable {
    let entry: WorkloadEntry
    init(_ fields: inout Fields) { entry = WorkloadEntry(&fields, needsAddress: false) }
  }
}

extension WorkloadGroup.Probe: FieldDecodable {
  init(_ fields: inout Fields) {
    func seconds(_ name: String, _ byDefault: Int) -> Duration {
      .seconds(fields.int(name, in: 0...Int(Int32.max)) ?? byDefault)
    }
    initialDelay = seconds("initialDelaySeconds", 0)
    timeout = seconds("timeoutSeconds", 1)
    period = seconds("periodSeconds", 10)
    successThreshold = fields.int("successThreshold", in: 0...Int(Int32.max)) ?? 1
    failureThreshold = fields.int("failureThreshold", in: 0...Int(Int32.max)) ?? 3
    let checks: [WorkloadGroup.Check?] = [
      (fields.object("httpGet") as HTTPGet?)?.check, (fields.object("tcpSocket") as Socket?)?.check,
      (fields.object("exec") as Exec?)?.check, (fields.object("grpc") as GRPC?)?.check,
    ]
    let written = checks.compactMap { $0 }
    check = written.first ?? .command([])
    if written.count > 1 {
      fields.error("", "a probe has one of httpGet, tcpSocket, exec and grpc")
    } else if written.isEmpty && !fields.report.hasErrors {
      fields.error("", "a probe needs httpGet, tcpSocket, exec or grpc")
    }
  }

  private struct HTTPGet: FieldDecodable {
    let check: WorkloadGroup.Check
    init(_ fields: inout Fields) {
      let scheme = fields.string("scheme") ?? ""
      if !["", "HTTP", "HTTPS"].contains(scheme) { fields.error("scheme", "must be HTTP or HTTPS") }
      check = .http(
        path: fields.string("path") ?? "/", port: fields.requiredPort("port"), host: fields.string("host") ?? "",
        isHTTPS: scheme == "HTTPS", headers: fields.list("httpHeaders"))
    }
  }
  private struct Socket: FieldDecodable {
    let check: WorkloadGroup.Check
    init(_ fields: inout Fields) {
      check = .tcp(host: fields.string("host") ?? "", port: fields.requiredPort("port"))
    }
  }
  private struct Exec: FieldDecodable {
    let check: WorkloadGroup.Check
    init(_ fields: inout Fields) {
      let command = fields.filledStrings("command")
      if command.isEmpty && !fields.report.hasErrors { fields.error("command", "required") }
      check = .command(command)
    }
  }
  private struct GRPC: FieldDecodable {
    let check: WorkloadGroup.Check
    init(_ fields: inout Fields) {
      check = .grpc(port: fields.requiredPort("port"), service: fields.string("service") ?? "")
    }
  }
}

extension WorkloadGroup.Header: FieldDecodable {
  init(_ fields: inout Fields) {
    name = fields.requiredString("name")
    value = fields.string("value") ?? ""
    let isName = name.utf8.allSatisfy { NameForm.isAlphanumeric($0) || $0 == 0x2D || $0 == 0x5F }
    if !isName { fields.error("name", "'\(name.prefix(80))' is not a header name: use letters, digits, '-' and '_'") }
  }
}
