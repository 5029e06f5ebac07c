import MeshConfig
import Telemetry

extension HeaderOperations {
  /// These operations with every value filled in. A value that comes out empty leaves its field alone (Envoy,
  /// `keep_empty_value`).
  public func filled(by values: some CommandValues) -> HeaderOperations {
    func fill(_ fields: [Field]) -> [Field] {
      fields.compactMap { field in
        guard let format = field.format else { return field }
        let value = format.headerValue(values)
        return value.isEmpty ? nil : Field(name: field.name, value: value)
      }
    }
    return HeaderOperations(remove: remove, set: fill(set), add: fill(add))
  }
}

extension CommandFormat {
  func headerValue(_ values: some CommandValues) -> [UInt8] {
    var out: [UInt8] = []
    for part in parts {
      switch part {
      case .text(let text): out += text
      case .command(let command, let max): values.append(command, max: max, to: &out)
      }
      guard out.count <= TrafficLimits.headerValueBytesMax else { return [] }
    }
    return out.filter { $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 }
  }
}
