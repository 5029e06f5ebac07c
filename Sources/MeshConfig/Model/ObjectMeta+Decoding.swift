extension ObjectMeta: FieldDecodable {
  init(_ fields: inout Fields) {
    name = fields.requiredString("name")
    namespace = fields.string("namespace") ?? ""
    labels = fields.stringMap("labels")
    annotations = fields.stringMap("annotations")
    fields.ignore(
      "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
      "generateName", "managedFields", "ownerReferences", "finalizers", "selfLink")
    if !name.isEmpty && !NameForm.isSubdomain(name) {
      fields.error("name", "'\(name.prefix(80))' is not a name: use lower-case letters, digits, '-' and '.'")
    }
    if !namespace.isEmpty && !NameForm.isLabel(namespace) {
      fields.error("namespace", "'\(namespace.prefix(80))' is not a namespace: use lower-case letters, digits and '-'")
    }
    for (key, value) in labels.sorted(by: { $0.key < $1.key }) {
      if let problem = NameForm.labelProblem(key: key, value: value) {
        fields.report.error(fields.path / "labels" / key, problem)
      }
    }
  }
}
