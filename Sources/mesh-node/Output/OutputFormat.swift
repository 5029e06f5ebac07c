import FoundationEssentials
import MeshConfig

enum OutputFormat: String, Sendable { case table, json, yaml }

/// Prints one value as a table, as JSON or as YAML.
func show<Value: Encodable>(_ value: Value, as format: OutputFormat, table: (Value) -> [String]) throws {
  switch format {
  case .table: for line in table(value) { Terminal.line(line) }
  case .json: Terminal.line(try json(value))
  case .yaml: Terminal.write(try yaml(value))
  }
}

func json(_ value: some Encodable) throws -> String {
  let encoder = JSONEncoder()
  encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
  return String(decoding: try encoder.encode(value), as: UTF8.self)
}

/// The value as YAML: its JSON, laid out by the same emitter that writes configuration objects.
func yaml(_ value: some Encodable) throws -> String {
  let (documents, error) = YAMLParser.parse(Array(try json(value).utf8))
  guard let document = documents.first, error == nil else { throw CommandFailure("the answer cannot be written as YAML") }
  return document.yaml
}
