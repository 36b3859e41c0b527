# Shows the bundled OLMoE: that it computes what transformers computed, and what it says when a test
# chooses the experts. Run as: cmake -DOLMOE=binary -DMODEL=directory -P demo.cmake

function(run title)
  execute_process(COMMAND ${CMAKE_COMMAND} -E echo "\n== ${title}")
  execute_process(COMMAND ${OLMOE} ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

set(prompt "And the LORD said unto Moses,")
set(generate generate --model ${MODEL} --prompt ${prompt} --max-new-tokens 40)

run("The same logits, routings and text as Hugging Face transformers?"
  verify --model ${MODEL} --capture ${MODEL}/capture.safetensors)
run("Text by the model's own routing, top-8" ${generate})
run("Text by Benjamini-Hochberg routing, 1 to 16 experts a token"
  ${generate} --route bh:alpha=0.0048,min_k=1,max_k=16)
