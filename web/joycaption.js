// Shows the text of a run on our nodes, in both node designs, as the stock "Preview as Text" node does.

import { app } from "../../scripts/app.js";

// What a new node needs: its least width, and how much higher than ComfyUI makes it, for the text.
const NODES = {
  JoyCaptionOptions: { width: 360, more: 60 },
  JoyCaptionCaption: { width: 400, more: 140 },
  JoyCaptionFolder: { width: 420, more: 140 },
};
const preview = window.comfyAPI?.textPreviewWidgets; // absent on older pages: the nodes work, without the text

/** Any node of the graph or of a subgraph in it: "7" or "<id of the subgraph>:7". */
function nodeAt(locator) {
  const [id, subgraph] = String(locator).split(":").reverse();
  const graph = subgraph ? app.rootGraph?.subgraphs.get(subgraph) : (app.rootGraph ?? app.graph);
  return graph?.getNodeById(id);
}

function show(node, text) {
  if (preview && node?.type in NODES) preview.updateTextPreviewWidgets(node, { text });
}

app.registerExtension({
  name: "JoyCaption.text",

  setup() {
    // What an earlier run has shown must not stand there as if it were this one's.
    app.api.addEventListener("executing", ({ detail }) => detail && show(nodeAt(detail), [""]));
    app.api.addEventListener("execution_error", ({ detail }) => show(nodeAt(detail.node_id), [detail.exception_message]));
    app.api.addEventListener("execution_interrupted", ({ detail }) => show(nodeAt(detail.node_id), ["Stopped."]));
  },

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!preview || !(nodeData.name in NODES)) return;
    const { width, more } = NODES[nodeData.name];
    const { onNodeCreated, onExecuted } = nodeType.prototype;

    nodeType.prototype.onNodeCreated = function (...args) {
      onNodeCreated?.apply(this, args);
      preview.addTextPreviewWidgets(this);
      // Captions are plain text, so the switch to Markdown only takes room.
      const mode = this.widgets.find((widget) => widget.name === "preview_mode");
      if (mode) this.removeWidget(mode);
      this.setSize([Math.max(this.size[0], width), this.size[1] + more]);
    };

    nodeType.prototype.onExecuted = function (...args) {
      onExecuted?.apply(this, args);
      show(this, args[0].text);
    };
  },

  // Another tab and back makes the nodes anew; the page kept what they had shown.
  onNodeOutputsUpdated(outputs) {
    for (const [locator, output] of Object.entries(outputs)) show(nodeAt(locator), output.text);
  },
});
