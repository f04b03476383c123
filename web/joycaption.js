// Shows the text of a run on our nodes, in both node designs, as the stock "Preview as Text" node does.

import { app } from "../../scripts/app.js";

const NODES = ["JoyCaptionCaption", "JoyCaptionOptions", "JoyCaptionFolder"];
const preview = window.comfyAPI?.textPreviewWidgets; // absent on older pages: the nodes work, without the text

/** Any node of the graph or of a subgraph in it: "7" or "<id of the subgraph>:7". */
function nodeAt(locator) {
  const [id, subgraph] = locator.split(":").reverse();
  const graph = subgraph ? app.rootGraph.subgraphs.get(subgraph) : app.rootGraph;
  return graph?.getNodeById(id);
}

app.registerExtension({
  name: "JoyCaption.text",

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!preview || !NODES.includes(nodeData.name)) return;
    const { onNodeCreated, onConfigure, onExecuted } = nodeType.prototype;

    nodeType.prototype.onNodeCreated = function (...args) {
      onNodeCreated?.apply(this, args);
      preview.addTextPreviewWidgets(this);
      // Captions are plain text, so the switch to Markdown only takes room.
      const mode = this.widgets.find((widget) => widget.name === "preview_mode");
      if (mode) this.removeWidget(mode);
    };

    // A choice that shows further inputs (DynamicCombo) shrinks the node while a workflow loads, and the text with it.
    nodeType.prototype.onConfigure = function (...args) {
      onConfigure?.apply(this, args);
      const saved = args[0].size;
      if (saved) this.setSize([saved[0], Math.max(saved[1], this.size[1])]);
    };

    nodeType.prototype.onExecuted = function (...args) {
      onExecuted?.apply(this, args);
      preview.updateTextPreviewWidgets(this, args[0]);
    };
  },

  // Another tab and back makes the nodes anew; the page kept what they had shown.
  onNodeOutputsUpdated(outputs) {
    for (const [locator, output] of Object.entries(outputs)) {
      const node = nodeAt(locator);
      if (preview && NODES.includes(node?.type)) preview.updateTextPreviewWidgets(node, output);
    }
  },
});
